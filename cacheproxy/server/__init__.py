"""The doors: two HTTP listeners, one for callers and one for operators."""

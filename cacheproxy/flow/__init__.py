"""One request, from its bytes to its answer. ``proxy.py`` tells it top to bottom."""

"""Adapters that reach LLM APIs, real, simulated or scripted."""

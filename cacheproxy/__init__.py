"""cacheproxy: answers repeated and similar LLM requests from a cache, and never lies about it."""

__version__ = "0.1.0"

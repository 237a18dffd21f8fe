"""The decisions, as pure functions: what may be cached, under which key, and what may be served. No I/O."""

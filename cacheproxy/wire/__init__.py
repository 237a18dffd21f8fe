"""The APIs that are cached, as pure functions of bytes and JSON. No I/O.

A *dialect* knows one API: how to read a request (``View``), read an answer (``AnswerView``), put a stream together
into the answer that the same request would have got without streaming, and tell that answer again, whole or as a
stream. ``DIALECTS`` maps a path to its dialect.
"""

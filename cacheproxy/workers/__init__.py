"""The processes that serve: one by itself (``alone``), or several that serve as one.

Several are a supervisor, workers, and a process that has the embedding model. ``supervisor`` starts, watches and
replaces the others (``child``), and says which listening socket is whose (``seating``, ``sockets``); ``worker`` and
``embedding`` are what it starts; they speak over ``control``. ``serving`` is what an operator
asks of either by signals.
"""

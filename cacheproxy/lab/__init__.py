"""Clients and servers around the proxy, never inside a request: a simulated upstream, a replayer of questions."""

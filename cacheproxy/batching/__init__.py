"""Micro-batching: many callers, one batch at a time, every waiter answered."""

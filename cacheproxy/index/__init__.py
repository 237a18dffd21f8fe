"""Adapters that find the nearest entries inside a scope."""

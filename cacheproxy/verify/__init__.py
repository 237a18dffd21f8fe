"""Adapters that compare two questions more closely than their vectors do."""

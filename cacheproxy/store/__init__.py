"""Adapters that keep entries and the ledger."""

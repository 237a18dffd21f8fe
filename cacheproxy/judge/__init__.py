"""Judges: does a cached answer say the same as a fresh one?"""

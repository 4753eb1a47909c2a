"""Measurements and pictures for the docs; nothing here passes or fails.

From the root: `python -m benchmarks.NAME`.
"""

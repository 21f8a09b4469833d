"""Measure what the project promises: `python -m bench`."""

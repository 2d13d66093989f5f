"""Measurements of whole runs, by one command each: `python -m benchmarks.NAME`."""

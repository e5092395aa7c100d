"""Measurements: each script prints one JSON object with its figures as its last line."""

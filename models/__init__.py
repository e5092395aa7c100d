"""The bottom layer: wire messages, models and decision rules. Imports nothing of the other packages."""

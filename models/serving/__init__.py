"""Bundles in service: manifest, loading and cache, time limits, calibration, ensemble, drift, rollout."""

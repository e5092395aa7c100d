"""Faults drawn from a seed against the whole running system, and a comparison with a run that had none."""

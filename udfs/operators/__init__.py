"""Flink operators: thin classes that carry the steps. The home of pyflink besides jobs/."""

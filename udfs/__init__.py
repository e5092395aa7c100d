"""What Flink calls: one thin class per file; the logic is in pure functions of other modules."""

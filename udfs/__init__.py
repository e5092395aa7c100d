"""What Flink calls: one thin class a file; the logic lives in pure functions beside them."""

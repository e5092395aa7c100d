"""What survives a restart: per-series records, their layout, and partition assignments."""

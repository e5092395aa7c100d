"""Every edge of the system: settings, venues, Kafka, Redis, files."""

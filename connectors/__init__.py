"""The system's interfaces: settings, venues, Kafka, Redis, files."""

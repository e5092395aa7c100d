"""From venues to Kafka: connections, deduplication, gaps, backfill and their supervision."""

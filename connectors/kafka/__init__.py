"""Everything that reads or writes Kafka outside Flink, and the SQL text of Flink's Kafka tables."""

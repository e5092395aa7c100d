"""The steps of the jobs as pure functions: no settings, no Kafka, no Flink."""

"""The settings of each job and of ingestion: command line, environment, TOML."""

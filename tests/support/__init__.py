"""What several tests use: servers, series, jobs and oracles."""

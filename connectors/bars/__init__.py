"""The SQL that turns trades into bars, and which trades count."""

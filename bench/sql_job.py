"""Flink SQL alone: parse each bar's JSON, write it as JSON. What the JVM can do without Python."""

from __future__ import annotations

import sys

from connectors.settings.signals_job import parse_settings
from udfs.operators.environment import stream_environment

COLUMNS = """symbol STRING, timeframe STRING, start_ms BIGINT, end_ms BIGINT, `open` DOUBLE, high DOUBLE, low DOUBLE,
  `close` DOUBLE, volume DOUBLE"""


def main() -> None:
    """Copy the topic to its end."""
    settings = parse_settings(sys.argv[1:])
    environment = stream_environment(settings)
    table = environment.table
    common = f"'connector' = 'kafka', 'properties.bootstrap.servers' = '{settings.kafka}', 'format' = 'json'"
    table.execute_sql(
        f"CREATE TEMPORARY TABLE bars ({COLUMNS}) WITH ({common}, 'topic' = '{settings.bars_topic}', "
        "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', "
        "'properties.group.id' = 'sql')"
    )
    table.execute_sql(
        f"CREATE TEMPORARY TABLE copied ({COLUMNS}) WITH ({common}, 'topic' = '{settings.topic('features')}')"
    )
    table.execute_sql("INSERT INTO copied SELECT * FROM bars").wait()


if __name__ == "__main__":
    main()

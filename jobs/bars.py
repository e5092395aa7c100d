"""Trades to bars, in event time: Flink SQL in the JVM, no Python on the way.

    market-data-trades ──> windows by symbol and source ──> market-data-bars          (where built bars are chosen)
                                                       └──> market-data-bars-check    (where the vendor's are)

Run it on a local mini cluster with ``signals build-bars`` (or ``python -m jobs.bars``), or submit it:
``flink run -py jobs/bars.py -pyfs dist/signal_pipeline-*.whl --kafka HOST:PORT``.

Guarantee: at-least-once; a repeated version of a bar is equal to the first, and a later version has a higher revision.
A bar appears when the watermark passes its end: when every partition of the trades topic that is not idle has a trade
``late_s`` later. If trades end (or were all there before the job began, with a partition empty), the last bars wait for
the next trade; ``--replay`` builds them all.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, StatementSet, TableEnvironment

from connectors.bars_sql import (
    BAR_COLUMNS,
    bar_values,
    bars_query,
    bars_sink,
    choice_sql,
    quote,
    trades_table,
    versions_query,
)
from connectors.intake import CHECK_TOPIC
from connectors.kafka import ensure_topics, require_broker
from connectors.kafka_security import kafka_security
from connectors.runtime import find_jars, flink_configuration
from connectors.settings import BarsSettings, SettingsError, load
from models.messages import TIMEFRAME_MS, TOPICS, Bar, Trade, decode, encode

#: Longer than any file of trades: a file's bars are all built at its end, when nothing can be late.
_WHOLE_FILE_S = 9_000 * 86_400


def environment(settings: BarsSettings, revise: bool = True) -> tuple[TableEnvironment, bool]:
    """A table environment, and whether it is a local mini cluster of this process."""
    submitted = "PYFLINK_GATEWAY_PORT" in os.environ
    configuration = Configuration()
    if not submitted:
        for key, value in flink_configuration().items():
            configuration.set_string(key, value)
        jars = find_jars("flink-sql-connector-kafka-*.jar")
        configuration.set_string("pipeline.jars", ";".join(jar.as_uri() for jar in jars))
        configuration.set_string("python.executable", sys.executable)
        configuration.set_string("python.client.executable", sys.executable)
        configuration.set_string("rest.port", "0")
        configuration.set_string("parallelism.default", "1")
    mode = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration)
    tables = TableEnvironment.create(mode.build())
    options = {
        "pipeline.name": "bars",
        "table.local-time-zone": "UTC",
        "table.exec.source.idle-timeout": f"{int(settings.idle_s * 1000)} ms",
    }
    if revise:
        options |= {
            "table.exec.emit.late-fire.enabled": "true",
            "table.exec.emit.late-fire.delay": "0 s",
            "table.exec.emit.allow-lateness": f"{int(settings.revise_h * 3600)} s",
            "table.exec.state.ttl": f"{int(settings.revise_h * 3600)} s",
        }
    for key, value in options.items():
        tables.get_config().set(key, value)
    return tables, not submitted


def build(
    tables: TableEnvironment,
    settings: BarsSettings,
    bootstrap: str,
    bounded: bool = False,
    topics: tuple[str, str, str] = (TOPICS[Trade], TOPICS[Bar], CHECK_TOPIC),
    source_options: dict[str, str] | None = None,
) -> StatementSet:
    """Wire the job: trades, then for each timeframe the chosen bars and the bars kept to check them.

    ``topics`` are those of trades, chosen bars and compared bars; ``source_options`` go to the Kafka connector.
    """
    trades, chosen, check = topics
    source = {
        "connector": "kafka",
        "topic": trades,
        "properties.bootstrap.servers": bootstrap,
        "properties.group.id": "bars",
        "scan.startup.mode": "earliest-offset" if bounded else "group-offsets",
        "properties.auto.offset.reset": "earliest",
        "format": "json",
        "json.ignore-parse-errors": "true",
        **{f"properties.{key}": value for key, value in kafka_security().connector_options().items()},
    }
    source |= source_options or {}
    if bounded:
        source["scan.bounded.mode"] = "latest-offset"
    sequence = "seq BIGINT METADATA FROM 'offset' VIRTUAL"
    tables.execute_sql(trades_table("trades", sequence, settings.late_s, source, None))
    tables.execute_sql(trades_table("trades_by_day", sequence, settings.late_s, source, settings))
    tables.execute_sql(bars_sink(bootstrap, (chosen, check)))
    columns = "symbol, source, timeframe, start_ms, end_ms, `open`, high, low, `close`, volume, trade_count, vwap"
    statements = tables.create_statement_set()
    for timeframe in settings.timeframes:
        table = "trades_by_day" if timeframe == "1d" else "trades"
        # one row a bar, updated by each late trade
        query = bar_values(bars_query(table, timeframe, settings), timeframe)
        tables.create_temporary_view(f"bars_{timeframe}", tables.sql_query(query))
        # one row a version; the chosen ones to one topic, the others to the other
        use = choice_sql(settings, timeframe).replace("source", "built_from")
        statements.add_insert_sql(
            f"INSERT INTO bars SELECT CASE WHEN {use} = 'built' THEN {quote(chosen)} ELSE {quote(check)} END, "
            f"TO_TIMESTAMP_LTZ(end_ms, 3), {columns}, revision FROM ({versions_query(f'bars_{timeframe}')})"
        )
    return statements


def bars_of(trades: Iterable[Trade], timeframe: str, settings: BarsSettings | None = None) -> Iterator[Bar]:
    """Bars of recorded trades by the same SQL, each once and final, ordered by symbol and start."""
    settings = settings or BarsSettings.model_validate({})
    if timeframe not in TIMEFRAME_MS:
        raise ValueError(f"timeframe = {timeframe!r}: must be one of {', '.join(TIMEFRAME_MS)}")
    with tempfile.TemporaryDirectory() as folder:
        given, built = Path(folder) / "trades", Path(folder) / "bars"
        given.mkdir()
        with open(given / "trades.json", "wb") as file:
            for number, trade in enumerate(trades):
                file.write(encode(trade)[:-1] + b',"seq":%d}\n' % number)
        tables, _ = environment(settings, revise=False)
        source = {"connector": "filesystem", "path": given.as_uri(), "format": "json"}
        daily = settings if timeframe == "1d" else None
        tables.execute_sql(trades_table("trades", "seq BIGINT", _WHOLE_FILE_S, source, daily))
        query = bar_values(bars_query("trades", timeframe, settings), timeframe)
        tables.create_temporary_view("bars", tables.sql_query(query))
        tables.execute_sql(_file_sink(built))
        tables.execute_sql("INSERT INTO built SELECT * FROM bars").wait()
        lines = [line for path in sorted(built.rglob("*")) if path.is_file() for line in path.read_bytes().splitlines()]
    yield from sorted((decode(line, Bar) for line in lines), key=lambda bar: (bar.symbol, bar.source, bar.start_ms))


def _file_sink(folder: Path) -> str:
    return f"""CREATE TEMPORARY TABLE built ({BAR_COLUMNS}, built_from STRING) WITH (
  'connector' = 'filesystem', 'path' = '{folder.as_uri()}', 'format' = 'json',
  'json.encode.ignore-null-fields' = 'true')"""


def main(arguments: list[str] | None = None) -> None:
    """Check, build and, on a local mini cluster, wait for the end."""
    parser = argparse.ArgumentParser("signals build-bars", description="Build bars from trades, in event time.")
    parser.add_argument("--kafka", help="bootstrap address (default: SIGNALS_KAFKA or 127.0.0.1:9092)")
    parser.add_argument("--config", type=Path, help="settings file (default: signals.toml)")
    parser.add_argument("--timeframes", help="comma-separated, of 1s 1m 5m 1h 1d (default: the settings')")
    parser.add_argument("--replay", action="store_true", help="read to the end of the topic and stop")
    options = parser.parse_args(arguments)
    try:
        overrides = {"kafka": options.kafka} if options.kafka else {}
        settings = load(options.config, **overrides)
        bars = settings.bars
        if options.timeframes:
            bars = BarsSettings.model_validate(
                bars.model_dump(exclude={"timeframes"}) | {"timeframes": options.timeframes.split(",")}
            )
        require_broker(settings.kafka)
    except (ConnectionError, SettingsError, ValueError) as error:
        raise SystemExit(f"bars: {error}") from None
    ensure_topics(settings.kafka, [TOPICS[Trade], TOPICS[Bar], CHECK_TOPIC])
    tables, local = environment(bars)
    result = build(tables, bars, settings.kafka, options.replay).execute()
    if local:
        print(f"bars: running, {' '.join(bars.timeframes)} from {TOPICS[Trade]} at {settings.kafka}", flush=True)
        result.wait()


if __name__ == "__main__":
    main()

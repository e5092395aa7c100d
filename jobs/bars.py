"""Trades to bars, in event time: Flink SQL in the JVM, no Python.

    market-data-trades ──> windows by symbol and source ──> market-data-bars          (where built bars are chosen)
                                                       └──> market-data-bars-check    (where the vendor's are)

Run it on a local mini cluster with ``signals build-bars`` (or ``python -m jobs.bars``), or submit it:
``flink run -py jobs/bars.py -pyfs dist/signal_pipeline-*.whl --kafka HOST:PORT``.

Guarantee: at-least-once; a repeated version of a bar equals the first, and a later version has a higher revision.
The trades of unfinished bars are state: a restart resumes from a checkpoint (``--restore``, or the cluster), or else
from the beginning of the topic, because from the committed offsets its first bars would lack earlier trades.
A bar appears when the watermark passes its end: when every partition of the trades topic that is not idle has a trade
``late_s`` later. If trades end (or all existed before the job started, with a partition empty), the last bars wait for
the next trade; ``--replay`` builds them all.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from connectors.bars.sql import (
    BAR_COLUMNS,
    bar_values,
    bars_query,
    bars_sink,
    choice_sql,
    quote,
    trades_table,
    versions_query,
)
from connectors.ingest.stream_ingest import CHECK_TOPIC
from connectors.kafka.security import kafka_security
from connectors.kafka.topics import ensure_topics, require_broker
from connectors.settings.bars_job import parse_bars_settings
from connectors.settings.flink_job import RunSettings
from connectors.settings.ingest import BarsSettings, SettingsError
from models.messages import TIMEFRAME_MS, TOPICS, Bar, Trade, decode, encode
from udfs.operators.environment import Environment, stream_environment

#: Longer than any file of trades: a file's bars are all built at its end, when nothing can be late.
_WHOLE_FILE_S = 9_000 * 86_400


def environment(settings: BarsSettings, run: RunSettings | None = None, revise: bool = True) -> Environment:
    """Where the job runs, and how SQL treats late trades; ``revise`` lets them make new versions."""
    run = run or RunSettings.model_validate({})
    made = stream_environment(run, "bars")
    options = {"table.local-time-zone": "UTC"}
    if not run.replay:  # a replay waits for a partition however long it is delayed
        options["table.exec.source.idle-timeout"] = f"{int(settings.idle_s * 1000)} ms"
    if revise:
        options |= {
            "table.exec.emit.late-fire.enabled": "true",
            "table.exec.emit.late-fire.delay": "0 s",
            "table.exec.emit.allow-lateness": f"{int(settings.revise_h * 3600)} s",
            "table.exec.state.ttl": f"{int(settings.revise_h * 3600)} s",
        }
    for key, value in options.items():
        made.table.get_config().set(key, value)
    return made


def build(
    environment: Environment,
    settings: BarsSettings,
    bootstrap: str,
    run: RunSettings | None = None,
    topics: tuple[str, str, str] = (TOPICS[Trade], TOPICS[Bar], CHECK_TOPIC),
    source_options: dict[str, str] | None = None,
) -> None:
    """Wire the job: trades, then for each timeframe the chosen bars and the bars kept to check them.

    ``topics`` are those of trades, chosen bars and compared bars; ``source_options`` go to the Kafka connector. The
    timeframes are one query, to read the trades once. They are part of its state's name: the windows of several are
    identified by position alone, so that state of other timeframes must not be mistaken for theirs.
    """
    tables, run = environment.table, run or RunSettings.model_validate({})
    trades, chosen, check = topics
    source = {
        "connector": "kafka",
        "topic": trades,
        "properties.bootstrap.servers": bootstrap,
        "properties.group.id": "bars",
        "scan.startup.mode": "earliest-offset" if run.replay else run.start,
        "properties.auto.offset.reset": "earliest",
        "format": "json",
        "json.ignore-parse-errors": "true",
        **{f"properties.{key}": value for key, value in kafka_security().connector_options().items()},
    }
    source |= source_options or {}
    if run.replay:
        source["scan.bounded.mode"] = "latest-offset"
    sequence = "seq BIGINT METADATA FROM 'offset' VIRTUAL"
    tables.execute_sql(trades_table("trades", sequence, settings.late_s, source, None))
    tables.execute_sql(trades_table("trades_by_day", sequence, settings.late_s, source, settings))
    tables.execute_sql(bars_sink(bootstrap, (chosen, check)))
    columns = "symbol, source, timeframe, start_ms, end_ms, `open`, high, low, `close`, volume, trade_count, vwap"
    inserts = []
    for timeframe in settings.timeframes:
        table = "trades_by_day" if timeframe == "1d" else "trades"
        # one row per bar, updated by each late trade
        query = bar_values(bars_query(table, timeframe, settings), timeframe)
        tables.create_temporary_view(f"bars_{timeframe}", tables.sql_query(query))
        # one row per version; the chosen ones to one topic, the others to the other
        use = choice_sql(settings, timeframe).replace("source", "built_from")
        inserts.append(
            f"INSERT INTO bars SELECT CASE WHEN {use} = 'built' THEN {quote(chosen)} ELSE {quote(check)} END, "
            f"TO_TIMESTAMP_LTZ(end_ms, 3), {columns}, revision FROM ({versions_query(f'bars_{timeframe}')})"
        )
    environment.insert(f"bars-{'-'.join(settings.timeframes)}", *inserts)


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
        made = environment(settings, RunSettings.model_validate({"replay": True}), revise=False)
        tables = made.table
        source = {"connector": "filesystem", "path": given.as_uri(), "format": "json"}
        daily = settings if timeframe == "1d" else None
        tables.execute_sql(trades_table("trades", "seq BIGINT", _WHOLE_FILE_S, source, daily))
        query = bar_values(bars_query("trades", timeframe, settings), timeframe)
        tables.create_temporary_view("bars", tables.sql_query(query))
        tables.execute_sql(_file_sink(built))
        made.insert("built", "INSERT INTO built SELECT * FROM bars")
        made.run()
        lines = [line for path in sorted(built.rglob("*")) if path.is_file() for line in path.read_bytes().splitlines()]
    yield from sorted((decode(line, Bar) for line in lines), key=lambda bar: (bar.symbol, bar.source, bar.start_ms))


def _file_sink(folder: Path) -> str:
    return f"""CREATE TEMPORARY TABLE built ({BAR_COLUMNS}, built_from STRING) WITH (
  'connector' = 'filesystem', 'path' = '{folder.as_uri()}', 'format' = 'json',
  'json.encode.ignore-null-fields' = 'true')"""


def main(arguments: list[str] | None = None) -> None:
    """Check, build and, on a local mini cluster, wait for the end."""
    run = parse_bars_settings(sys.argv[1:] if arguments is None else arguments)
    try:
        settings, bars = run.load()
        require_broker(settings.kafka)
    except (ConnectionError, SettingsError, ValueError) as error:
        raise SystemExit(f"bars: {error}") from None
    ensure_topics(settings.kafka, [TOPICS[Trade], TOPICS[Bar], CHECK_TOPIC])
    made = environment(bars, run)
    build(made, bars, settings.kafka, run)
    client = made.start()
    if made.local:
        print(f"bars: running, {' '.join(bars.timeframes)} from {TOPICS[Trade]} at {settings.kafka}", flush=True)
        client.get_job_execution_result().result()


if __name__ == "__main__":
    main()

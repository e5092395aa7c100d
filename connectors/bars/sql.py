"""SQL text that turns trades into bars: tables, calendars, sale conditions, choice. Pure; ``jobs/bars.py`` runs it.

Time is event time. A bar is first published when the watermark passes its end (revision 0); a trade later than that
publishes the whole bar again with a higher revision. Open and close are the first and last trade by time, ties by the
order of arrival (Kafka's offset), by trade id where the venue declares that its ids are in order.

Days are the exchange's own, by the wall clock of its calendar; before the open and after the close a trade without
sale conditions sets no daily price. Cancelled trades are taken out of volume, count and VWAP; they and corrections
cannot be removed from prices already published: compare with the vendor's updated bars (``bars_cross_check`` metric).
"""

from __future__ import annotations

import fnmatch
from collections import Counter

from connectors import venues
from connectors.bars.sale_conditions import codes
from connectors.kafka.security import kafka_security
from connectors.settings.ingest import BarsSettings
from models.messages import TIMEFRAME_MS
from models.trade.calendar import DAY_MS, US_STOCKS, Calendar, calendar

#: Prefix of the ``source`` of a built bar, before the source of its trades.
BUILT = "built:"
_FROM_MS = 946_684_800_000


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _pattern(text: str) -> str:
    return quote(text.replace("_", "\\_").replace("*", "%").replace("?", "_")) + " ESCAPE '\\'"


def _like(column: str, text: str) -> str:
    if "*" in text or "?" in text:
        return "TRUE" if text == "*" else f"{column} LIKE {_pattern(text)}"
    return f"{column} = {quote(text)}"


def _steps(column: str, steps: list[tuple[int, int]]) -> str:
    """A step function of a column, newest step first, because most data is recent."""
    recent = [step for at, step in enumerate(steps) if at + 1 == len(steps) or steps[at + 1][0] > _FROM_MS]
    if len(recent) == 1:
        return f"CAST({recent[0][1]} AS BIGINT)"
    whens = " ".join(f"WHEN {column} >= {start} THEN {value}" for start, value in reversed(recent[1:]))
    return f"CAST(CASE {whens} ELSE {recent[0][1]} END AS BIGINT)"


def _day_shift_ms(exchange: Calendar) -> int:
    """Shift that moves a session that opens the evening before into its own day."""
    if exchange.always_open:
        return 0
    opens = Counter(_tod(exchange, session.open_ms) for session in exchange.sessions(*_recent(exchange)))
    usual = opens.most_common(1)[0][0]
    return DAY_MS - usual if usual > DAY_MS // 2 else 0


def _recent(exchange: Calendar) -> tuple[int, int]:
    end = exchange.offsets()[-1][0]
    return end - 400 * DAY_MS, end


def _tod(exchange: Calendar, time_ms: int) -> int:
    offset = next(value for start, value in reversed(exchange.offsets()) if start <= time_ms)
    return (time_ms + offset) % DAY_MS


def wall_sql(exchange: Calendar, column: str = "timestamp_ms") -> str:
    """Wall-clock milliseconds of the exchange (moved so that a session lies in one day) from epoch milliseconds."""
    shift = _day_shift_ms(exchange)
    return f"({column} + {_steps(column, exchange.offsets())} + {shift})"


def epoch_sql(exchange: Calendar, column: str) -> str:
    """The inverse of :func:`wall_sql` for a day's start."""
    shift = _day_shift_ms(exchange)
    steps = exchange.offsets()
    walls = [(start + value + shift, value) for start, value in steps]
    return f"({column} - {_steps(column, walls)} - {shift})"


def in_session_sql(exchange: Calendar, wall: str) -> str:
    """Whether a wall time is within regular hours: the usual hours, exceptional days with theirs, holidays excluded."""
    if exchange.always_open:
        return "TRUE"
    shift = _day_shift_ms(exchange)
    offsets = exchange.offsets()
    end = offsets[-1][0] + 400 * DAY_MS
    hours: dict[int, tuple[int, int]] = {}
    at = 0
    for session in exchange.sessions(_FROM_MS, end):
        while at + 1 < len(offsets) and offsets[at + 1][0] <= session.open_ms:
            at += 1
        opens, closes = (time + offsets[at][1] + shift for time in (session.open_ms, session.close_ms))
        hours[opens // DAY_MS] = (opens % DAY_MS, closes - opens // DAY_MS * DAY_MS)
    usual = Counter(hours.values()).most_common(1)[0][0]
    day, tod = f"({wall} / {DAY_MS})", f"MOD({wall}, {DAY_MS})"
    first, last = min(hours), max(hours)
    weekdays = {number % 7 for number in hours}
    closed = [n for n in range(first, last + 1) if n % 7 in weekdays and n not in hours]
    others: dict[tuple[int, int], list[int]] = {}
    for number, span in hours.items():
        if span != usual:
            others.setdefault(span, []).append(number)
    exceptions = closed + [number for days in others.values() for number in days]
    week = ", ".join(map(str, sorted(weekdays)))
    parts = [f"({tod} >= {usual[0]} AND {tod} < {usual[1]} AND MOD({day}, 7) IN ({week}){_not_in(day, exceptions)})"]
    parts += [
        f"({day} IN ({', '.join(map(str, days))}) AND {tod} >= {span[0]} AND {tod} < {span[1]})"
        for span, days in others.items()
    ]
    return "(" + " OR ".join(parts) + ")"


def _not_in(column: str, values: list[int]) -> str:
    return f" AND {column} NOT IN ({', '.join(map(str, values))})" if values else ""


def calendars(settings: BarsSettings) -> list[tuple[str, str]]:
    """``(condition, calendar name)`` in order of precedence; the last applies to the rest."""
    found = []
    for name, exchange in settings.calendars.items():
        source, _, symbol = name.partition(":")
        condition = _like("source", source)
        found.append((f"{condition} AND {_like('symbol', symbol)}" if symbol else condition, exchange))
    declared = [(name, venues.capabilities(name).calendar) for name in _longest_first(venues.names())]
    others = {name for name, exchange in declared if exchange != US_STOCKS}
    # US stocks are the rest, except a venue of them whose name begins like that of a venue with another calendar.
    found += [(_source(name), exchange) for name, exchange in declared if any(name.startswith(one) for one in others)]
    return [*found, ("TRUE", settings.calendars.get("*", US_STOCKS))]


def _longest_first(names: list[str]) -> list[str]:
    """In the order in which the venue of a source is looked up."""
    return sorted(names, key=lambda name: (-len(name), name))


def _source(venue: str) -> str:
    """Whether a row is of a venue, as :func:`connectors.venues.of_source` decides when longer names come first."""
    return _like("source", f"{venue}*")


def by_calendar(settings: BarsSettings, text: dict[str, str]) -> str:
    """CASE over :func:`calendars` with one SQL text per calendar."""
    *some, (_, rest) = calendars(settings)
    if not some:
        return text[rest]
    return "CASE " + " ".join(f"WHEN {c} THEN {text[name]}" for c, name in some) + f" ELSE {text[rest]} END"


def _names(settings: BarsSettings) -> list[str]:
    return list(dict.fromkeys(name for _, name in calendars(settings)))


def rule_sql(timeframe: str) -> str:
    """The effect of a trade's sale conditions, as text, from ``source`` and ``conditions``."""

    def dialect(source: str) -> str:
        found = codes(source, timeframe)
        if not found:
            return "'all'"
        whens = " ".join(
            f"WHEN {' OR '.join(f'ARRAY_CONTAINS(conditions, {quote(code)})' for code in effect_codes)} THEN '{effect}'"
            for effect, effect_codes in found.items()
        )
        return f"CASE {whens} ELSE 'all' END"

    cases = " ".join(f"WHEN {_source(name)} THEN {dialect(name)}" for name in _longest_first(venues.names()))
    return f"CASE WHEN conditions IS NULL OR CARDINALITY(conditions) = 0 THEN 'all' {cases} ELSE {dialect('')} END"


def choice_sql(settings: BarsSettings, timeframe: str) -> str:
    """``built`` or ``vendor`` for a bar's source and symbol, as :meth:`BarsSettings.use` decides."""
    whens = []
    for choice in settings.choices:
        if fnmatch.fnmatchcase(timeframe, choice.timeframe):
            condition = f"{_like('source', choice.source)} AND {_like('symbol', choice.symbol)}"
            whens.append(f"WHEN {condition} THEN '{choice.use}'")
    return f"CASE {' '.join(whens)} ELSE 'built' END" if whens else "'built'"


TRADE_COLUMNS = """symbol STRING,
  source STRING,
  timestamp_ms BIGINT,
  price DOUBLE,
  size DOUBLE,
  trade_id STRING,
  conditions ARRAY<STRING>,
  kind STRING"""


def trades_table(name: str, sequence: str, late_s: float, options: dict[str, str], daily: BarsSettings | None) -> str:
    """DDL of a trades source. ``daily``: its time attribute is the exchange's wall clock."""
    stamp = "COALESCE(timestamp_ms, 0)"
    if daily is not None:
        walls = {exchange: wall_sql(calendar(exchange), stamp) for exchange in _names(daily)}
        stamp = by_calendar(daily, walls)
    listed = ",\n  ".join(f"{quote(key)} = {quote(value)}" for key, value in options.items())
    return f"""CREATE TEMPORARY TABLE {name} (
  {TRADE_COLUMNS},
  {sequence},
  wall_ms AS {stamp},
  event_time AS TO_TIMESTAMP_LTZ({stamp}, 3),
  WATERMARK FOR event_time AS TO_TIMESTAMP_LTZ({stamp} - {int(late_s * 1000)}, 3)
) WITH (
  {listed}
)"""


def bars_query(table: str, timeframe: str, settings: BarsSettings) -> str:
    """Bars of one timeframe: one row first, then one per late trade.

    An expression used several times becomes a column by ``UNNEST`` of one row: the planner copies a projected
    expression into each of its uses, and a day's calendar copied hundreds of times takes minutes to compile.
    """
    length = TIMEFRAME_MS[timeframe]
    interval = {"1s": "'1' SECOND", "1m": "'1' MINUTE", "5m": "'5' MINUTE", "1h": "'1' HOUR", "1d": "'1' DAY"}
    window = f"TUMBLE(event_time, INTERVAL {interval[timeframe]})"
    session = "TRUE"
    start, end = "start_ms", f"start_ms + {length}"
    if timeframe == "1d":
        session = by_calendar(settings, {n: in_session_sql(calendar(n), "wall") for n in _names(settings)})
        session = f"({session} OR (conditions IS NOT NULL AND CARDINALITY(conditions) > 0))"
        start = by_calendar(settings, {n: epoch_sql(calendar(n), "start_ms") for n in _names(settings)})
        end = by_calendar(settings, {n: epoch_sql(calendar(n), f"(start_ms + {length})") for n in _names(settings)})
    by_id = " ".join(
        f"WHEN {_source(name)} THEN {'trade_id' if venues.capabilities(name).ordered_ids else 'CAST(seq AS STRING)'}"
        for name in _longest_first(venues.names())
    )
    order = f"CASE {by_id} ELSE CAST(seq AS STRING) END"
    place = (
        "LPAD(CAST(timestamp_ms AS STRING), 13, '0') || "
        f"LPAD(COALESCE({order}, ''), 20, '0') || '|' || CAST(price AS STRING)"
    )
    return f"""SELECT symbol, source, {start} AS start_ms, {end} AS end_ms,
  CAST(SPLIT_INDEX(first_trade, '|', 1) AS DOUBLE) AS `open`, high, low,
  CAST(SPLIT_INDEX(last_trade, '|', 1) AS DOUBLE) AS `close`,
  volume, trade_count, CASE WHEN volume > 0 THEN notional / volume END AS vwap,
  CAST(late_trades - CASE WHEN trades = late_trades THEN 1 ELSE 0 END AS INT) AS revision
FROM (
  SELECT symbol, source,
    UNIX_TIMESTAMP(CAST({window.replace("TUMBLE(", "TUMBLE_START(")} AS STRING)) * 1000 AS start_ms,
    MIN(CASE WHEN price_rule IN ('all', 'prices') THEN place END) AS first_trade,
    MAX(CASE WHEN price_rule IN ('all', 'prices') THEN place END) AS last_trade,
    MAX(CASE WHEN price_rule IN ('all', 'prices', 'range') THEN price END) AS high,
    MIN(CASE WHEN price_rule IN ('all', 'prices', 'range') THEN price END) AS low,
    SUM(CASE WHEN rule <> 'prices' THEN sign * size ELSE 0 END) AS volume,
    SUM(CASE WHEN rule <> 'prices' THEN sign * size * price ELSE 0 END) AS notional,
    SUM(sign) AS trade_count,
    COUNT(*) AS trades,
    SUM(late) AS late_trades
  FROM (
    SELECT symbol, source, price, size, event_time, place, rule,
      CASE WHEN kind = 'cancel' OR NOT in_session THEN 'nothing' ELSE rule END AS price_rule,
      CASE WHEN kind = 'cancel' THEN -1 ELSE 1 END AS sign,
      CASE WHEN CURRENT_WATERMARK(event_time) IS NOT NULL AND CURRENT_WATERMARK(event_time) >=
        TO_TIMESTAMP_LTZ(wall - MOD(wall, {length}) + {length - 1}, 3) THEN 1 ELSE 0 END AS late
    FROM {table}
    CROSS JOIN UNNEST(ARRAY[wall_ms]) AS once (wall)
    CROSS JOIN UNNEST(ARRAY[ROW({place}, {rule_sql(timeframe)}, {session})]) AS then_once (place, rule, in_session)
    WHERE symbol IS NOT NULL AND timestamp_ms IS NOT NULL AND price > 0 AND size >= 0
      AND COALESCE(kind, 'new') <> 'correction' AND rule <> 'nothing'
  )
  GROUP BY symbol, source, {window}
)
WHERE first_trade IS NOT NULL AND volume > 0"""


BAR_COLUMNS = """symbol STRING,
  source STRING,
  timeframe STRING,
  start_ms BIGINT,
  end_ms BIGINT,
  `open` DOUBLE,
  high DOUBLE,
  low DOUBLE,
  `close` DOUBLE,
  volume DOUBLE,
  trade_count BIGINT,
  vwap DOUBLE,
  revision INT"""


def bar_values(query: str, timeframe: str) -> str:
    """A SELECT of bars in the order of :data:`BAR_COLUMNS`."""
    return f"""SELECT symbol, '{BUILT}' || COALESCE(source, '') AS source, '{timeframe}' AS timeframe, start_ms, end_ms,
  `open`, high, low, `close`, volume, trade_count, vwap, revision, source AS built_from
FROM ({query})"""


def versions_query(view: str) -> str:
    """Each version of a bar as its own row: rows that an update replaces and withdrawn bars are not repeated."""
    mapping = "MAP['INSERT', 'new', 'UPDATE_AFTER', 'revised']"
    return f"SELECT * FROM TO_CHANGELOG(input => TABLE {view}, op_mapping => {mapping})"


def bars_sink(bootstrap: str, topics: tuple[str, str]) -> str:
    """DDL of the bars topics: each version of a bar is one record, keyed by symbol, stamped with the bar's end."""
    security = kafka_security().connector_options()
    secured = "".join(f",\n  'properties.{key}' = {quote(value)}" for key, value in security.items())
    return f"""CREATE TEMPORARY TABLE bars (
  `topic` STRING METADATA,
  `timestamp` TIMESTAMP_LTZ(3) METADATA,
  {BAR_COLUMNS}
) WITH (
  'connector' = 'kafka',
  'topic' = {quote(";".join(topics))},
  'properties.bootstrap.servers' = {quote(bootstrap)},
  'key.format' = 'raw',
  'key.fields' = 'symbol',
  'value.format' = 'json',
  'value.json.encode.ignore-null-fields' = 'true',
  'properties.linger.ms' = '5'{secured}
)"""

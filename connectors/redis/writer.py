"""What the jobs write to Redis, one pipeline a frame; every write may be repeated without changing anything.

- **Signals** go through one script that writes a signal's JSON, the active set and the stream together, only if no
  revision as high of the same decision (the id's stem) was written before. A higher revision takes the place of the
  lower one, a cancellation removes it.
- **News** go through a third: newest first, an edit in place of the version before it.
- **Outcomes** go through another: the newest by (``revision``, ``updated_ms``) stays, and only a newer one enters the
  stream. A finished outcome removes its signal from the active set.

Times of life are counted in event time: ``signal:{id}`` lives ``expires_ms - created_ms`` from its writing (so a replay
of old bars behaves like a live run), and the active set is cut at the newest event time seen, not at the wall clock.

Guarantee: at-least-once in, effectively once out, for as long as a signal lives (at least :data:`MEMORY_MS`). While the
server is away a write waits for it, :data:`PATIENCE_S` at most: then the job fails, and writes the frame again when it
has restarted from its checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis

from connectors.redis import keys as redis_keys
from connectors.redis.bars import place_of, push_bars, trim_bars
from models.messages import Bar, News, Outcome, Signal, encode

log = logging.getLogger("redis_store")

#: Least time that a written signal is remembered, so that a replay does not write it again.
MEMORY_MS = 24 * 3_600_000

#: Seconds that a write waits for a server that is away. Well below the 180 s after which Flink takes a task that does
#: not obey a cancellation for hung, and ends its TaskManager.
PATIENCE_S = 90.0

#: Finished outcomes kept of each symbol.
OUTCOMES_MAX = 5_000

# KEYS: revision mark, signal, active set, stream, outcomes. ARGV: revision, id, kind, JSON, ttl, expires, cap, id
# without revision, id it cancels, life of the mark.
_WRITE_SIGNAL = """
local held = tonumber(redis.call('GET', KEYS[1]) or '-1')
if held >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[10])
if held >= 0 then redis.call('ZREM', KEYS[3], ARGV[8] .. '-' .. held) end
if ARGV[9] ~= '' then
  redis.call('ZREM', KEYS[3], ARGV[9])
else
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
  local outcome = redis.call('HGET', KEYS[5], ARGV[2])
  if not outcome or cjson.decode(outcome).status == 'active' then redis.call('ZADD', KEYS[3], ARGV[6], ARGV[2]) end
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[7], '*', 'id', ARGV[2], 'kind', ARGV[3], 'data', ARGV[4])
return 1
"""

# KEYS: outcomes, finished ids by time, active set, stream. ARGV: id, JSON, updated, revision, finished, cap, kept.
_WRITE_OUTCOME = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local known = cjson.decode(held)
  local revision = tonumber(known.revision or 0)
  if revision > tonumber(ARGV[4]) then return 0 end
  if revision == tonumber(ARGV[4]) and tonumber(known.updated_ms) >= tonumber(ARGV[3]) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[5] == '1' then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
  local surplus = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[7])
  if surplus > 0 then
    local oldest = redis.call('ZPOPMIN', KEYS[2], surplus)
    for i = 1, #oldest, 2 do redis.call('HDEL', KEYS[1], oldest[i]) end
  end
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*', 'id', ARGV[1], 'kind', 'outcome', 'data', ARGV[2])
return 1
"""

# KEYS: the symbol's news. ARGV: article id, its update time, creation time, JSON, articles kept. Newest creation first;
# an edit takes the place of the version before it.
_WRITE_NEWS = """
local kept, place = redis.call('LRANGE', KEYS[1], 0, -1), nil
for i, held in ipairs(kept) do
  local known = cjson.decode(held)
  if known.news_id == ARGV[1] then
    if tonumber(known.updated_ms) >= tonumber(ARGV[2]) then return 0 end
    redis.call('LREM', KEYS[1], 1, held)
  elseif not place and tonumber(known.created_ms) <= tonumber(ARGV[3]) then
    place = held
  end
end
if place then redis.call('LINSERT', KEYS[1], 'BEFORE', place, ARGV[4]) else redis.call('RPUSH', KEYS[1], ARGV[4]) end
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[5]) - 1)
return 1
"""


class RedisStore:
    """Writes over one client (see ``connectors.redis.client.connect``).

    ``stream_maxlen`` bounds the signal stream, ``outcomes_max`` the finished outcomes kept of a symbol, ``patience_s``
    how long a write waits for a server that is away.
    """

    def __init__(
        self,
        client: Any,
        stream_maxlen: int = redis_keys.STREAM_MAXLEN,
        outcomes_max: int = OUTCOMES_MAX,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.client, self._patience_s = client, patience_s
        self._stream_maxlen, self._outcomes_max = stream_maxlen, outcomes_max
        self._write_signal = client.register_script(_WRITE_SIGNAL)
        self._write_outcome = client.register_script(_WRITE_OUTCOME)
        self._write_news = client.register_script(_WRITE_NEWS)
        self._event_ms = 0
        #: Start and revision of the last bar in each list.
        self._last_bars: dict[tuple[str, str], tuple[int, int]] = {}

    def write_frame(
        self,
        *,
        features: Iterable[tuple[str, str, Mapping[str, float]]] = (),
        prices: Iterable[tuple[str, float, int]] = (),
        bars: Mapping[tuple[str, str], Sequence[Bar]] | None = None,
        signals: Iterable[Signal] = (),
        outcomes: Iterable[Outcome] = (),
        news: Iterable[News] = (),
    ) -> tuple[int, int]:
        """Write a frame in one round trip; returns how many signals and outcomes were new.

        ``features``: (symbol, timeframe, values by name, without the missing); ``prices``: (symbol, price,
        timestamp_ms); ``bars``: by (symbol, timeframe), at least one each, for charts; ``news``: articles, for people.
        """
        pipeline = self.client.pipeline(transaction=False)
        for symbol, timeframe, values in features:
            key = redis_keys.features_key(symbol, timeframe)
            pipeline.delete(key)
            if values:
                pipeline.hset(key, mapping=dict(values))
                pipeline.expire(key, redis_keys.FEATURES_TTL_S)
        for symbol, price, timestamp_ms in prices:
            pipeline.set(redis_keys.price_key(symbol), encode({"price": price, "timestamp_ms": timestamp_ms}))
        pushed: list[tuple[int, str, str]] = []
        for (symbol, timeframe), some in self._new_bars(bars or {}):
            pushed.append((len(pipeline), symbol, timeframe))
            push_bars(pipeline, symbol, timeframe, some)
        for article in news:
            self._write_news(
                keys=[redis_keys.news_key(article.symbol)],
                args=[
                    article.news_id, article.updated_ms, article.created_ms, encode(article), redis_keys.NEWS_MAX
                ],
                client=pipeline,
            )  # fmt: skip
        first_signal = len(pipeline)
        for signal in signals:
            self._add_signal(pipeline, signal)
        first_outcome = len(pipeline)
        for outcome in outcomes:
            self._add_outcome(pipeline, outcome)
        last = len(pipeline)
        if last > first_signal:
            pipeline.zremrangebyscore(redis_keys.SIGNALS_ACTIVE, "-inf", f"({self._event_ms}")
        if not len(pipeline):
            return 0, 0
        replies = self._execute(pipeline)
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):  # the next push trims as well
            for at, symbol, timeframe in pushed:
                trim_bars(self.client, symbol, timeframe, int(replies[at]))
        return sum(replies[first_signal:first_outcome]), sum(replies[first_outcome:last])

    def _new_bars(
        self, bars: Mapping[tuple[str, str], Sequence[Bar]]
    ) -> Iterator[tuple[tuple[str, str], Sequence[Bar]]]:
        """Each series' bars behind the last one in its list: repeats would drive older bars out of it."""
        unknown = [series for series in bars if series not in self._last_bars]
        if unknown:
            pipeline = self.client.pipeline(transaction=False)
            for series in unknown:
                pipeline.lindex(redis_keys.bars_key(*series), -1)
            for series, element in zip(unknown, self._execute(pipeline), strict=True):
                self._last_bars[series] = place_of(element) if element else (-1, 0)
        for series, some in bars.items():
            last = self._last_bars[series]
            if new := [bar for bar in some if (bar.start_ms, bar.revision) > last]:
                self._last_bars[series] = max((bar.start_ms, bar.revision) for bar in new)
                yield series, new

    def _execute(self, pipeline: Any) -> list[Any]:
        """The pipeline's replies; it is sent again, whole, while the server is away."""
        commands, scripts = pipeline.command_stack, pipeline.scripts  # an execution that fails drops them
        deadline = time.monotonic() + self._patience_s
        told = False
        while True:
            pipeline.command_stack, pipeline.scripts = list(commands), set(scripts)
            try:
                replies: list[Any] = pipeline.execute()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise
                if not told:
                    log.warning("Redis is away (%s): waiting for it, at most %.0f s", error, self._patience_s)
                    told = True
                time.sleep(0.2)
                continue
            if told:
                log.warning("Redis is back")
            return replies

    def _add_signal(self, pipeline: Any, signal: Signal) -> None:
        self._event_ms = max(self._event_ms, signal.created_ms)
        stem = signal.signal_id.rpartition("-")[0] or signal.signal_id
        life_ms = max(1, signal.expires_ms - signal.created_ms)
        self._write_signal(
            keys=[
                redis_keys.revision_key(stem),
                redis_keys.signal_key(signal.signal_id),
                redis_keys.SIGNALS_ACTIVE,
                redis_keys.SIGNALS_STREAM,
                redis_keys.outcomes_key(signal.symbol),
            ],
            args=[
                signal.revision,
                signal.signal_id,
                "cancel" if signal.cancels else "signal",
                encode(signal),
                life_ms,
                signal.expires_ms,
                self._stream_maxlen,
                stem,
                signal.cancels,
                max(life_ms, MEMORY_MS),
            ],
            client=pipeline,
        )

    def _add_outcome(self, pipeline: Any, outcome: Outcome) -> None:
        self._event_ms = max(self._event_ms, outcome.updated_ms)
        self._write_outcome(
            keys=[
                redis_keys.outcomes_key(outcome.symbol),
                redis_keys.finished_key(outcome.symbol),
                redis_keys.SIGNALS_ACTIVE,
                redis_keys.SIGNALS_STREAM,
            ],
            args=[
                outcome.signal_id,
                encode(outcome),
                outcome.updated_ms,
                outcome.revision,
                int(outcome.status != "active"),
                self._stream_maxlen,
                self._outcomes_max,
            ],
            client=pipeline,
        )

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()

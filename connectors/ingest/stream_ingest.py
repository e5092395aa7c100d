"""From frames to Kafka for one stream: parse, drop duplicates, score news, publish, find gaps. No socket, no clock.

One instance serves all connections of a stream, so that a planned overlap of two connections publishes each event once.
What may be missing is declared as an event (``gap``), fetched by the caller, and given back to
:meth:`StreamIngest.fill`, which publishes it marked ``backfilled`` and closes the gap (``gap_filled``, or
``gap_unfilled`` with what is still missing). After a restart :meth:`StreamIngest.remember` is given what is on the
topics already, so that the pause itself is such a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from connectors.ingest import metrics
from connectors.ingest.dedupe import Dedupe
from connectors.ingest.gaps import Gap, Holes, Outages, Range
from connectors.ingest.sentiment import Scorer, scored
from connectors.ingest.staleness import Staleness
from connectors.kafka.publisher import event_ms
from connectors.venues.base import COUNTS_FOR, ConnectionEvent, Stream, Venue, VenueSettings
from models.dead_letters import dead_letter
from models.events import ConnectionChange, Event, GapDeclared, GapEvent, GapFilled, GapUnfilled
from models.messages import Bar, DeadLetter, Message, News, OptionSummary, Quote, Trade
from models.trade.calendar import Calendar

#: Topic of bars that were not chosen: kept to check the chosen ones against.
CHECK_TOPIC = "market-data-bars-check"
_DAY_MS = 86_400_000


class Sink(Protocol):
    """Where messages go; :class:`connectors.kafka.publisher.Publisher` is one."""

    def publish(self, message: Message, topic: str | None = None) -> None:
        """Take a message for its type's topic, or another."""

    def dead(self, letter: DeadLetter, time_ms: int) -> None:
        """Take a dead letter."""

    def poll(self) -> None:
        """Serve what the sink has to do in the background, such as delivery reports."""

    def flush(self) -> None:
        """Return when everything taken is delivered; raise if that fails."""


def channel_of(message: Message) -> str:
    """The channel a message counts for.

    >>> channel_of(Trade(symbol="A", timestamp_ms=0, price=1, size=1))
    'trades'
    """
    match message:
        case Trade():
            return "trades"
        case Quote():
            return "ticker" if message.last_price is not None else "quotes"
        case Bar():
            return "bars"
        case News():
            return "news"
        case OptionSummary():
            return "options"
    return "statuses"


def _ranges(numbers: Iterable[int]) -> list[Range]:
    found: list[Range] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


class StreamIngest:
    """The state of one stream's ingestion."""

    def __init__(
        self,
        stream: Stream,
        settings: VenueSettings,
        sink: Sink,
        calendar: Calendar,
        now_ms: int,
        score: Scorer | None = None,
        use: Callable[[str, str, str], str] | None = None,
    ) -> None:
        self.source = stream.adapter.source
        self._venue, self._settings, self._sink, self._calendar = stream.adapter, settings, sink, calendar
        self._score, self._use = score, use
        self._dedupe = Dedupe(settings.remember)
        self._ids = Holes(settings.reorder_ms)
        self._minutes = Holes(settings.reorder_ms, self._open_minutes)
        self._outages = Outages(settings.margin_ms)
        self._quote_outages = Outages(settings.margin_ms)
        self._news_outages = Outages(settings.margin_ms)
        self._gaps: list[Gap] = []
        self._unclosed: dict[Gap, None] = {}
        self._lacking: list[Gap] = []
        self._stream = stream
        channels = stream.counted
        limits = {name: int(seconds * 1000) for name, seconds in settings.stale_s.items() if name in channels}
        self.staleness = Staleness(limits, calendar, now_ms)
        self._last_event_ms = dict.fromkeys(channels, now_ms)
        for channel in channels:
            metrics.CONNECTED.labels(self.source, channel)  # 0 until connected, not absent
        self._lag_ms: int | None = None
        self._totals = {"messages": 0, "duplicates": 0, "gaps": 0, "backfilled": 0, "rejected": 0}
        self.state, self._reason = "starting", ""
        self.reconnects = 0
        self._last_ms: int | None = None
        self.data_count = 0
        self._counts: dict[tuple[str, str], Any] = {}

    def _open_minutes(self, first: int, last: int) -> list[Range]:
        starts = self._calendar.minutes_open(first * 60_000, (last + 1) * 60_000)
        return _ranges(start // 60_000 for start in starts)

    def _count(self, total: str, counter: Any, channel: str, amount: int = 1) -> None:
        """Add to a total of the report and to its metric of the channel."""
        self._totals[total] += amount
        key = (total, channel)
        if key not in self._counts:
            self._counts[key] = counter.labels(self.source, channel)
        self._counts[key].inc(amount)

    def take(self, frames: list[bytes], now_ms: int, venue: Venue | None = None) -> list[ConnectionEvent]:
        """Publish what the frames hold; returns what the venue says about the connection."""
        parsed = (venue or self._venue).parse_many(frames, now_ms)
        for refused in parsed.rejects:
            self._sink.dead(dead_letter(refused.payload, refused.reason, f"venue:{self.source}", refused.field), now_ms)
            self._count("rejected", metrics.REJECTED, refused.channel or "unknown")
        if parsed.messages:
            self.accept(parsed.messages, now_ms)
        return parsed.connection_events

    def accept(self, messages: list[Message], now_ms: int) -> None:
        """Publish messages that were not seen before and record the gaps they show."""
        contiguous = self._venue.contiguous_ids
        published: dict[str, int] = {}
        duplicates: dict[str, int] = {}
        channels: set[str] = set()
        for message in messages:
            channel = channel_of(message)
            channels.add(channel)
            fresh = self._dedupe.new(message)
            if fresh is None:
                duplicates[channel] = duplicates.get(channel, 0) + 1
                continue
            if type(fresh) is Trade:
                if fresh.kind == "new":
                    if contiguous:
                        self._ids.see(fresh.symbol, int(fresh.trade_id), now_ms)
                    else:
                        self._after_outage(self._outages, channel, fresh.symbol, fresh.timestamp_ms)
                self._sink.publish(fresh)
            elif type(fresh) is Bar:
                if not fresh.final and not self._settings.publish_forming:
                    continue
                if fresh.timeframe == "1m" and fresh.final and fresh.revision == 0:
                    self._minutes.see(fresh.symbol, fresh.start_ms // 60_000, now_ms)
                self._publish_bar(fresh)
            elif type(fresh) is News:
                self._after_outage(self._news_outages, channel, "*", fresh.updated_ms)
                self._sink.publish(self._scored(fresh))
            elif type(fresh) is Quote:
                self._after_outage(self._quote_outages, channel, fresh.symbol, fresh.timestamp_ms)
                self._sink.publish(fresh)
            else:
                self._sink.publish(fresh)
            published[channel] = published.get(channel, 0) + 1
        self.data_count += len(messages)
        if "trades" in channels:
            lag_ms = now_ms - event_ms(messages[-1])
            self._lag_ms = lag_ms if abs(lag_ms) < _DAY_MS else None  # a replay of history has none
        for channel in channels:
            self._last_event_ms[channel] = self._last_ms = now_ms
            self.staleness.see(channel, now_ms)
        for channel, amount in published.items():
            self._count("messages", metrics.MESSAGES, channel, amount)
        for channel, amount in duplicates.items():
            self._count("duplicates", metrics.DUPLICATES, channel, amount)

    def _after_outage(self, outages: Outages, channel: str, symbol: str, time_ms: int) -> None:
        """Record the gap that an event shows, if it is the first of its symbol after an outage."""
        if span := outages.see(symbol, time_ms):
            self._gaps.append(Gap(symbol=symbol, channel=channel, numbering="outage", first=span[0], last=span[1]))

    def _scored(self, news: News) -> News:
        return news if self._score is None else scored(news, self._score)

    def _publish_bar(self, bar: Bar) -> None:
        chosen = self._use is None or self._use(self.source, bar.symbol, bar.timeframe) == "vendor"
        self._sink.publish(bar, None if chosen else CHECK_TOPIC)

    def publish_event(self, kind: type[Event], at_ms: int, reason: str = "", about: str = "*", **fields: Any) -> None:
        """Publish an event of this stream; a connection change is also its state from now on."""
        event = kind(
            symbol=about,
            source=self.source,
            ingestion_timestamp_ms=at_ms,
            timestamp_ms=at_ms,
            reason=reason,
            **fields,
        )
        if isinstance(event, ConnectionChange):
            self.state, self._reason = event.kind, reason
        self._sink.publish(event)

    def lost(self, now_ms: int) -> None:
        """A connection broke or was silent: until each symbol's next event, its events may be missing."""
        if not self._venue.contiguous_ids:
            self._outages.lost()
        self._quote_outages.lost()
        self._news_outages.lost()

    def carries(self, gap: Gap) -> bool:
        """Whether this stream is the one that a gap is in."""
        return any(
            COUNTS_FOR.get(name, name) == gap.channel and (gap.symbol in symbols or "*" in (*symbols, gap.symbol))
            for name, symbols in self._stream.channels.items()
        )

    def remember(self, message: Message, now_ms: int) -> None:
        """Record a message of this source that was published before a restart, in the order of its topic."""
        if isinstance(message, GapEvent):
            gap = Gap.of(message)
            if isinstance(message, GapDeclared):
                self._unclosed[gap] = None
            else:
                self._unclosed.pop(gap, None)
            if isinstance(message, GapUnfilled):
                for first, last in message.missing:
                    self._lacking.append(msgspec.structs.replace(gap, first=first, last=last))
            return
        self._dedupe.new(message)
        if type(message) is Trade and message.kind == "new":
            if not self._venue.contiguous_ids:
                self._outages.see(message.symbol, message.timestamp_ms)
            elif message.trade_id.isdigit():
                self._ids.see(message.symbol, int(message.trade_id), now_ms)
        elif type(message) is Quote:
            self._quote_outages.see(message.symbol, message.timestamp_ms)
        elif type(message) is Bar and message.timeframe == "1m" and message.final:
            self._minutes.see(message.symbol, message.start_ms // 60_000, now_ms)
        elif type(message) is News:
            self._news_outages.see("*", message.updated_ms)

    def resume(self, now_ms: int) -> list[Gap]:
        """Resume after a restart: what was sent since the last recorded event may be missing.

        Returns the gaps that were declared before and are still to be filled; what history did not have then is not
        asked for again.
        """
        for gap in self._lacking:
            if holes := self._holes(gap):
                holes[0].forget(gap.symbol, *holes[1])
        unclosed = [gap for gap in self._unclosed if self.carries(gap)]
        for gap in unclosed:
            if holes := self._holes(gap):
                holes[0].declared(gap.symbol, *holes[1])
        self._unclosed, self._lacking = {}, []
        self.lost(now_ms)
        return unclosed

    def _holes(self, gap: Gap) -> tuple[Holes, Range] | None:
        """Where a gap's holes are kept, and which numbers it spans."""
        if gap.numbering == "ids":
            return self._ids, (gap.first, gap.last)
        if gap.numbering == "minutes":
            return self._minutes, (gap.first // 60_000, gap.last // 60_000)
        return None

    def gaps(self, now_ms: int) -> list[Gap]:
        """Gaps that must be filled now; each is published as an event and returned once."""
        found = self._gaps
        self._gaps = []
        for symbol, (first, last) in self._ids.due(now_ms):
            found.append(Gap(symbol=symbol, channel="trades", numbering="ids", first=first, last=last))
        for symbol, (first, last) in self._minutes.due(now_ms):
            found.append(
                Gap(symbol=symbol, channel="bars", numbering="minutes", first=first * 60_000, last=last * 60_000)
            )
        for gap in found:
            self.publish_event(GapDeclared, now_ms, "", gap.symbol, **gap.fields())
            self._count("gaps", metrics.GAPS, gap.channel)
        return found

    def fill(self, gap: Gap, messages: Iterable[Message], now_ms: int) -> int:
        """Publish what history has for a gap or a part of it; how many that are new."""
        count = 0
        for message in messages:
            fresh = self._dedupe.new(message)
            if type(fresh) is Trade and gap.numbering == "ids":
                self._ids.see(fresh.symbol, int(fresh.trade_id), now_ms)
            if type(message) is Bar and gap.numbering == "minutes":
                self._minutes.see(message.symbol, message.start_ms // 60_000, now_ms)
            if fresh is None:
                continue
            count += 1
            if type(fresh) is Bar:
                self._publish_bar(fresh)
            else:
                self._sink.publish(self._scored(fresh) if type(fresh) is News else fresh)
        self._count("backfilled", metrics.BACKFILLED, gap.channel, count)
        return count

    def close(self, gap: Gap, published: int, now_ms: int) -> None:
        """All that history has for a gap was published: report whether it is filled."""
        left: list[Range] = []
        if holes := self._holes(gap):
            left = holes[0].forget(gap.symbol, *holes[1])
            if gap.numbering == "minutes":
                left = [(first * 60_000, last * 60_000) for first, last in left]
        if left:
            reason = "the venue's history does not have them"
            if gap.numbering == "minutes":
                reason = "the venue has no bar there: no eligible trade"
            self.publish_event(
                GapUnfilled, now_ms, reason, gap.symbol, **gap.fields(), published=published, missing=tuple(left)
            )
        else:
            self.publish_event(GapFilled, now_ms, "", gap.symbol, **gap.fields(), published=published)

    def give_up(self, gap: Gap, reason: str, now_ms: int) -> None:
        """Report that a gap cannot be filled, and why."""
        if holes := self._holes(gap):
            holes[0].forget(gap.symbol, *holes[1])
        self.publish_event(GapUnfilled, now_ms, reason, gap.symbol, **gap.fields())

    def stale(self, now_ms: int) -> list[str]:
        """Channels that are silent though their market is open."""
        return self.staleness.stale(now_ms)

    def note_ages(self, now_ms: int) -> None:
        """Set the metric of each channel's last event."""
        for channel, last_ms in self._last_event_ms.items():
            metrics.LAST_EVENT_AGE.labels(self.source, channel).set((now_ms - last_ms) / 1000)

    def report(self) -> dict[str, Any]:
        """What the system page shows: state and why, the last message's lag (ms, arrival after event), counts."""
        fields = {"state": self.state, "lag_ms": self._lag_ms, "last_message_ms": self._last_ms}
        fields |= {"reconnects": self.reconnects, **self._totals}
        if self.state != "connected" and self._reason:
            fields["reason"] = self._reason
        return fields

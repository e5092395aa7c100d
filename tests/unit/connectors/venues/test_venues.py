"""Parsers against the venues' own samples: expected values are written out by hand from the documentation."""

import json
from pathlib import Path

import pytest

from connectors.venues import load, names
from connectors.venues.base import Action, ConnectionEvent
from models.events import TradingState
from models.messages import Bar, News, Quote, Trade

FIXTURES = Path(__file__).parents[3] / "fixtures" / "venues"
NOW = 1_700_000_000_000


def parse(venue: str, file: str):
    adapter = load(venue)
    return [adapter.parse(line, NOW) for line in (FIXTURES / venue / file).read_bytes().splitlines()]


def only(venue: str, file: str) -> list:
    parsed = parse(venue, file)
    assert [p.rejects for p in parsed] == [[] for _ in parsed]
    return [message for p in parsed for message in p.messages]


@pytest.mark.parametrize("path", sorted(FIXTURES.rglob("ws_*.json")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_documented_frame_is_understood_alone_and_joined(path: Path) -> None:
    adapter, frames = load(path.parent.name), path.read_bytes().splitlines()
    alone = [adapter.parse(frame, NOW) for frame in frames]
    for parsed in alone:
        assert parsed.rejects == []
        assert len(parsed.messages) + len(parsed.connection_events) == 1
    joined = adapter.parse_many(frames, NOW)
    assert joined.messages == [m for p in alone for m in p.messages]
    assert joined.connection_events == [c for p in alone for c in p.connection_events]


def test_alpaca_stocks() -> None:
    trade, quote, bar, correction, cancel, luld, halt = only("alpaca", "ws_stocks.json")
    assert trade == Trade(
        symbol="AAPL", source="alpaca", ingestion_timestamp_ms=NOW, timestamp_ms=1_614_009_104_208, price=126.55,
        size=1, trade_id="96921", exchange="D", conditions=("@", "I"), tape="C",
    )  # fmt: skip
    assert (quote.symbol, quote.bid_size, quote.ask_size, quote.timestamp_ms) == ("AMD", 100, 400, 1_614_009_105_335)
    assert (bar.start_ms, bar.end_ms, bar.close, bar.trade_count) == (1_614_021_300_000, 1_614_021_360_000, 389.12, 461)
    assert (bar.timeframe, bar.final, bar.revision) == ("1m", True, 0)
    assert (correction.kind, correction.trade_id, correction.corrects_id) == (
        "correction", "52983525034326", "52983525033527",
    )  # fmt: skip
    assert (correction.price, correction.conditions) == (39.1809, (" ", "7"))
    assert (cancel.kind, cancel.trade_id, cancel.size) == ("cancel", "465", 300)
    assert (luld.kind, luld.detail["u"], luld.detail["d"]) == ("luld", 3.24, 2.65)
    assert (halt.kind, halt.reason[:14], halt.reason_code) == ("halt", "Trading Halted", "T12")


def test_alpaca_test_feed_transcript() -> None:
    quote, bar = only("alpaca", "ws_test_feed.json")
    assert isinstance(quote, Quote)
    assert (quote.bid_price, quote.bid_size, quote.ask_size) == (133.85, 400, 500)
    assert isinstance(bar, Bar)
    assert (bar.volume, bar.vwap) == (205, 133.7)


def test_alpaca_options_and_crypto() -> None:
    option, crypto = only("alpaca", "ws_options_crypto.json")
    assert (option.conditions, option.size) == (("S",), 1)
    assert (crypto.symbol, crypto.size, crypto.trade_id) == ("AVAX/USD", 29.205707815, "3447222699101865076")


def test_alpaca_daily_and_updated_bars() -> None:
    body = '"S":"SPY","o":388,"h":389,"l":388,"c":389,"v":9,"t":"2021-02-22T05:00:00Z"'
    daily, updated = load("alpaca").parse(f'[{{"T":"d",{body}}},{{"T":"u",{body}}}]'.encode(), NOW).messages
    assert (daily.timeframe, daily.final, daily.end_ms - daily.start_ms) == ("1d", False, 86_400_000)
    assert (updated.timeframe, updated.final, updated.revision) == ("1m", True, 1)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("H", "halt"), ("2", "halt"), ("P", "pause"), ("Q", "quotation_resume"), ("T", "resume"), ("3", "resume")],
)
def test_alpaca_trading_statuses(code: str, kind: str) -> None:
    frame = f'[{{"T":"s","S":"aapl","sc":"{code}","t":"2021-02-22T19:15:00Z"}}]'.encode()
    status = load("alpaca").parse(frame, NOW).messages[0]
    assert isinstance(status, TradingState)
    assert (status.symbol, status.kind) == ("AAPL", kind)


def test_alpaca_news_becomes_one_message_a_symbol() -> None:
    (news,) = only("alpaca", "ws_news.json")
    assert isinstance(news, News)
    assert (news.symbol, news.news_id, news.publisher) == ("CRSR", "24918784", "benzinga")
    assert (news.created_ms, news.updated_ms) == (1_641_420_037_000, 1_641_420_038_000)


def test_polygon() -> None:
    trade, quote, bar, luld, crypto = only("polygon", "ws_stocks.json")
    assert trade == Trade(
        symbol="MSFT", source="polygon", ingestion_timestamp_ms=NOW, timestamp_ms=1_536_036_818_784, price=114.125,
        size=100, trade_id="12345", exchange="4", conditions=("0", "12"), tape="C",
    )  # fmt: skip
    assert (quote.bid_size, quote.ask_size, quote.conditions) == (100, 160, ("0",))
    assert (bar.open, bar.vwap, bar.volume) == (0.4488, 0.4488, 4110)
    assert (bar.start_ms, bar.end_ms) == (1_610_144_640_000, 1_610_144_700_000)
    assert luld.timestamp_ms == 1_601_316_752_683  # microseconds on the wire
    assert (crypto.symbol, crypto.size) == ("BTC-USD", 0.01616617)


def test_binance() -> None:
    trade, aggregate, kline, ticker, book = only("binance", "ws_events.json")
    for message in (trade, aggregate):
        assert (message.symbol, message.price, message.size, message.trade_id) == ("BNBBTC", 0.001, 100, "12345")
    assert (kline.final, kline.timeframe, kline.start_ms, kline.end_ms) == (False, "1m", 1672515780000, 1672515840000)
    assert kline.vwap == 1.0 / 1000
    assert (ticker.last_price, ticker.volume_24h, ticker.bid_price, ticker.ask_size) == (0.0025, 10000, 0.0024, 100)
    assert (book.symbol, book.bid_price, book.timestamp_ms) == ("BNBUSDT", 25.3519, NOW)


def test_combined_and_raw_streams_are_the_same_event() -> None:
    raw = (FIXTURES / "binance" / "ws_events.json").read_bytes().splitlines()
    wrapped = [b'{"stream":"x@y","data":' + line + b"}" for line in raw]
    adapter = load("binance_us")
    assert adapter.parse_many(wrapped, NOW) == adapter.parse_many(raw, NOW)
    assert {m.source for m in adapter.parse_many(raw, NOW).messages} == {"binance_us"}


def test_binance_microseconds_only_when_asked_for() -> None:
    event = json.loads((FIXTURES / "binance" / "ws_events.json").read_bytes().splitlines()[0])
    event["T"] *= 1000
    frame = json.dumps(event).encode()
    assert load("binance", time_unit="us").parse(frame, NOW).messages[0].timestamp_ms == 1_672_515_782_136
    (refused,) = load("binance").parse(frame, NOW).rejects
    assert (refused.field, refused.payload) == ("T", frame)
    assert "epoch milliseconds" in refused.reason


@pytest.mark.parametrize("scale", [0.001, 1000, 1_000_000], ids=["s", "us", "ns"])
@pytest.mark.parametrize(("kind", "field"), [("T", "t"), ("Q", "t"), ("AM", "s"), ("LULD", "t"), ("XT", "t")])
def test_polygon_wrong_unit_is_rejected_not_guessed(kind: str, field: str, scale: float) -> None:
    lines = (FIXTURES / "polygon" / "ws_stocks.json").read_bytes().splitlines()
    event = next(e for line in lines for e in json.loads(line) if e["ev"] == kind)
    event[field] = int(event[field] * scale)
    parsed = load("polygon").parse(json.dumps([event]).encode(), NOW)
    assert parsed.messages == []
    assert parsed.rejects[0].field == field


def test_one_bad_message_does_not_cost_its_neighbours() -> None:
    frame = (
        b'[{"T":"t","S":"A","p":1,"s":1,"t":"2021-02-22T15:51:44Z","i":1},{"T":"t","S":"A","p":-5,"s":1,'
        b'"t":"2021-02-22T15:51:44Z","i":2},{"T":"?"},{"T":"t","S":"A","p":2,"s":1,"t":"2021-02-22T15:51:45Z","i":3}]'
    )
    parsed = load("alpaca").parse(frame, NOW)
    assert [m.trade_id for m in parsed.messages] == ["1", "3"]
    assert [(r.field, r.payload[:10]) for r in parsed.rejects] == [("p", b'{"T":"t","'), ("T", b'{"T":"?"}')]


@pytest.mark.parametrize(
    "stamp", ["", "x", "2021-02-22", "2021-02-22T15:51:44", "1614009104208", "1901-02-22T15:51:44Z"]
)
def test_alpaca_times_must_be_whole(stamp: str) -> None:
    frame = json.dumps([{"T": "t", "S": "A", "p": 1, "s": 1, "t": stamp}]).encode()
    parsed = load("alpaca").parse(frame, NOW)
    assert (parsed.messages, parsed.rejects[0].field) == ([], "t")


def test_nanoseconds_never_round_into_the_next_bar() -> None:
    frame = b'[{"T":"t","S":"A","p":1,"s":1,"t":"2024-07-24T07:56:59.999999999Z"}]'
    assert load("alpaca").parse(frame, NOW).messages[0].timestamp_ms % 60_000 == 59_999


def test_control_frames() -> None:
    kinds = [p.connection_events[0].kind for p in parse("alpaca", "ws_control.json")]
    assert kinds == ["welcome", "authenticated", "subscribed", "error"]
    ack = parse("alpaca", "ws_control.json")[2].connection_events[0].channels
    assert ack == {
        "trades": ["AAPL"], "quotes": ["AMD", "CLDR"], "bars": ["*"], "daily_bars": ["VOO"], "statuses": ["*"],
    }  # fmt: skip
    short = parse("alpaca", "ws_test_feed.json")[0].connection_events[0].channels
    assert short == {"quotes": ["FAKEPACA"], "bars": ["FAKEPACA"]}
    kinds = [p.connection_events[0].kind for p in parse("polygon", "ws_control.json")]
    assert kinds == ["welcome", "authenticated", "subscribed", "error", "error", "error"]
    kinds = [p.connection_events[0].kind for p in parse("binance", "ws_control.json")]
    assert kinds == ["subscribed", "error", "shutdown"]


ALPACA_ACTIONS = {
    400: Action.LOG, 401: Action.RECONNECT, 402: Action.FATAL, 403: Action.LOG, 404: Action.RECONNECT,
    405: Action.SHRINK, 406: Action.WAIT, 407: Action.LOG, 408: Action.FATAL, 409: Action.FATAL, 410: Action.FATAL,
    411: Action.FATAL, 412: Action.FATAL, 413: Action.FATAL, 500: Action.RECONNECT, 999: Action.LOG,
}  # fmt: skip


@pytest.mark.parametrize(("code", "action"), ALPACA_ACTIONS.items())
def test_alpaca_policy_by_code(code: int, action: Action) -> None:
    adapter = load("alpaca")
    (error,) = adapter.parse(f'[{{"T":"error","code":{code},"msg":"m"}}]'.encode(), NOW).connection_events
    assert error == ConnectionEvent(kind="error", code=str(code), text="m")
    assert adapter.action(error) is action


@pytest.mark.parametrize(
    ("venue", "code", "action"),
    [
        ("polygon", "auth_failed", Action.FATAL),
        ("polygon", "auth_timeout", Action.RECONNECT),
        ("polygon", "max_connections", Action.COOL_DOWN),
        ("polygon", "error", Action.LOG),
        ("polygon", "not_authorized", Action.FATAL),
        ("polygon", "something new", Action.LOG),
        ("binance", "1008", Action.COOL_DOWN),
        ("binance", "418", Action.COOL_DOWN),
        ("binance", "429", Action.COOL_DOWN),
        ("binance", "1", Action.LOG),
        ("binance", "2", Action.FATAL),
        ("binance", "3", Action.FATAL),
        ("binance", "-1121", Action.FATAL),
    ],
)
def test_other_policies(venue: str, code: str, action: Action) -> None:
    assert load(venue).action(ConnectionEvent(kind="error", code=code)) is action


def test_polygon_says_not_authorized_in_the_text_of_an_error() -> None:
    frame = b'[{"ev":"status","status":"error","message":"You are not authorized to access T.*"}]'
    (error,) = load("polygon").parse(frame, NOW).connection_events
    assert load("polygon").action(error) is Action.FATAL


def test_binance_splits_subscriptions_and_refuses_too_many() -> None:
    adapter = load("binance")
    frames = adapter.subscribe({"trades": [f"S{n}" for n in range(450)]})
    assert [len(json.loads(frame)["params"]) for frame in frames] == [200, 200, 50]
    with pytest.raises(ValueError, match=r"streams = 1025: must be at most 1024"):
        adapter.subscribe({"trades": [f"S{n}" for n in range(1025)]})


def test_the_folder_is_the_list() -> None:
    assert names() == ["alpaca", "binance", "binance_us", "polygon"]
    with pytest.raises(ValueError, match="venue = 'kraken': must be one of alpaca, binance"):
        load("kraken")


def test_frames_as_recorders_write_them() -> None:
    """One by one instead of in an array, in an array instead of one by one, wrapped, with spaces, with line ends."""
    line = (FIXTURES / "alpaca" / "ws_stocks.json").read_bytes().splitlines()[0]
    alone = line.strip()[1:-1]
    assert load("alpaca").parse(b" " + alone + b"\r", NOW) == load("alpaca").parse(line, NOW)
    line = (FIXTURES / "polygon" / "ws_stocks.json").read_bytes().splitlines()[0]
    assert load("polygon").parse(line.strip()[1:-1], NOW) == load("polygon").parse(line, NOW)
    events = (FIXTURES / "binance" / "ws_events.json").read_bytes().splitlines()
    want = load("binance").parse_many(events, NOW)
    for frame in (b"[" + b", ".join(events) + b"]", b'{"stream":"!x@arr","data":[' + b",".join(events) + b"]}"):
        assert load("binance").parse(frame, NOW) == want
    nested = load("binance").parse(b"[[1],{}," + events[0] + b"]", NOW)
    assert [r.payload for r in nested.rejects] == [b"[1]", b"{}"]
    assert nested.messages == want.messages[:1]


@pytest.mark.parametrize(
    ("venue", "frame", "channel"),
    [
        ("alpaca", b'[{"T":"q","S":"A","bp":-1,"ap":1,"bs":1,"as":1,"t":"2021-02-22T15:51:44Z"}]', "quotes"),
        ("alpaca", b'{"T":"u","S":', "bars"),
        ("polygon", b'[{"ev":"AM","sym":"A"}]', "bars"),
        ("polygon", b'[{"ev":"XT","pair":', "trades"),
        ("binance", b'{"stream":"a@b","data":{"e":"kline","s":"A","k":1}}', "bars"),
        ("binance", b"nonsense", ""),
    ],
)
def test_a_reject_counts_for_the_channel_its_type_names(venue: str, frame: bytes, channel: str) -> None:
    (refused,) = load(venue).parse(frame, NOW).rejects
    assert refused.channel == channel

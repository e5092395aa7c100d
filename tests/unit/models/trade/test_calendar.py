"""Sessions against facts printed by the exchanges, and the wall clock against ``zoneinfo``."""

import hashlib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pytest

from connectors import venues
from models.trade.calendar import calendar, calendar_name


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def test_a_session_is_half_open() -> None:
    nyse = calendar("XNYS")
    assert not nyse.is_open(ms("2016-04-15T13:29:59.999+00:00"))
    assert nyse.is_open(ms("2016-04-15T13:30:00+00:00"))
    assert nyse.is_open(ms("2016-04-15T19:59:59.999+00:00"))
    assert not nyse.is_open(ms("2016-04-15T20:00:00+00:00"))


def test_holidays_and_early_closes() -> None:
    nyse = calendar("XNYS")
    assert not nyse.is_open(ms("2024-11-28T15:00:00+00:00"))
    assert nyse.session_on("2024-11-29").close_ms == ms("2024-11-29T13:00:00-05:00")
    with pytest.raises(ValueError, match="2024-11-28 is no session of XNYS: the next is 2024-11-29"):
        nyse.session_on("2024-11-28")


def test_minutes_of_trading_skip_the_weekend() -> None:
    minutes = list(calendar("XNYS").minutes_open(ms("2016-04-15T15:58:30-04:00"), ms("2016-04-18T09:32:00-04:00")))
    assert minutes == [
        ms("2016-04-15T15:59:00-04:00"), ms("2016-04-18T09:30:00-04:00"), ms("2016-04-18T09:31:00-04:00"),
    ]  # fmt: skip


def test_a_market_that_never_closes() -> None:
    always = calendar("24/7")
    assert always.is_open(ms("2023-12-25T03:00:00+00:00"))
    assert len(list(always.minutes_open(0, 3_600_000))) == 60
    assert always.session_ms == 86_400_000
    assert not len(always.open_ms)


def test_an_unknown_name_is_refused_with_known_ones() -> None:
    with pytest.raises(ValueError, match="calendar = 'XXXX' is unknown: use 24/7 or one of "):
        calendar("XXXX")


def test_the_tables_of_compiled_code_are_the_exchange_s() -> None:
    """Features, expiries and labels rest on these arrays: other numbers here are other signals."""
    nyse = calendar("XNYS")
    source = exchange_calendars.get_calendar("XNYS", start="1970-01-01", end="2040-12-31")
    assert np.array_equal(nyse.open_ms, source.opens_nanos // 1_000_000)
    assert np.array_equal(nyse.close_ms, source.closes_nanos // 1_000_000)
    assert nyse.open_ms.dtype == nyse.close_ms.dtype == np.int64
    assert (nyse.open_ms.tolist(), nyse.close_ms.tolist()) == (nyse.opens, nyse.closes)
    # Up to 2025 no exchange will change them any more.
    past = nyse.open_ms < ms("2026-01-01T00:00:00+00:00")
    digest = hashlib.sha256(nyse.open_ms[past].tobytes() + nyse.close_ms[past].tobytes()).hexdigest()
    assert digest == "287072a4c63a495470fdd52a1299f4918e2be3cd03c38978b07a4a47179c875f"
    assert nyse.session_ms == 6.5 * 3_600_000


def test_a_calendar_with_fewer_recorded_years_has_fewer_sessions() -> None:
    tokyo = calendar("XTKS")  # holidays recorded from 1997
    assert datetime.fromtimestamp(tokyo.opens[0] / 1000, UTC).year == 1997
    assert not tokyo.is_open(ms("2024-05-03T03:00:00+00:00"))  # Constitution Day


SOURCES = ["", "alpaca", "polygon", "binance", "binance_us", "binance-eu", "desk"]
SYMBOLS = ["AAPL", "BTCUSDT", "BTC/USD", "ETHUSD", "ETHBTC", "USDT", "BUSD", "SOL-USD", "ADAUSDC"]


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("source", SOURCES)
def test_which_calendar_a_series_trades_by(source: str, symbol: str) -> None:
    pair = symbol in ("BTCUSDT", "BTC/USD", "SOL-USD", "ADAUSDC")
    want = "24/7" if source.startswith("binance") or pair else "XNYS"
    assert venues.calendar_name(symbol, source) == want
    assert venues.calendar_name(symbol, f"built:{source}") == want


def test_a_declared_calendar_decides_over_the_symbol() -> None:
    assert calendar_name("BTC/USD", "lse", lambda source: {"lse": "XLON"}[source]) == "XLON"


@pytest.mark.parametrize("name", ["XNYS", "CMES"])
def test_wall_clock_offsets_equal_zoneinfo(name: str) -> None:
    steps = calendar(name).offsets()
    zone = ZoneInfo({"XNYS": "America/New_York", "CMES": "America/Chicago"}[name])
    for at in range(ms("2000-01-01T00:00:00+00:00"), ms("2026-12-31T00:00:00+00:00"), 29 * 3_600_000 + 1_234_567):
        want = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).utcoffset()
        got = next(offset for start, offset in reversed(steps) if start <= at)
        assert want is not None
        assert got == want.total_seconds() * 1000

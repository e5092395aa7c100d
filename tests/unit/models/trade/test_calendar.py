"""Sessions against facts printed by the exchanges, and the wall clock against ``zoneinfo``."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from models.trade.calendar import calendar, calendar_of


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


def test_next_open_and_sessions_ahead() -> None:
    nyse = calendar("XNYS")
    friday_evening = ms("2016-04-15T18:00:00-04:00")
    assert nyse.next_open_ms(friday_evening) == ms("2016-04-18T09:30:00-04:00")
    assert nyse.add_sessions(friday_evening, 1) == ms("2016-04-18T16:00:00-04:00")
    assert nyse.add_sessions(ms("2016-04-15T10:00:00-04:00"), 3) == ms("2016-04-19T16:00:00-04:00")


def test_minutes_of_trading_skip_the_weekend() -> None:
    minutes = list(calendar("XNYS").minutes_open(ms("2016-04-15T15:58:30-04:00"), ms("2016-04-18T09:32:00-04:00")))
    assert minutes == [
        ms("2016-04-15T15:59:00-04:00"), ms("2016-04-18T09:30:00-04:00"), ms("2016-04-18T09:31:00-04:00"),
    ]  # fmt: skip


def test_a_market_that_never_closes() -> None:
    always = calendar_of("binance_us")
    assert always.is_open(ms("2023-12-25T03:00:00+00:00"))
    assert len(list(always.minutes_open(0, 3_600_000))) == 60
    assert always.add_sessions(5, 2) == 5 + 2 * 86_400_000


def test_calendar_by_source() -> None:
    assert calendar_of("built:binance").always_open
    assert calendar_of("alpaca").name == "XNYS"
    with pytest.raises(ValueError, match="'XXXX' is unknown"):
        calendar("XXXX")


@pytest.mark.parametrize("name", ["XNYS", "CMES"])
def test_wall_clock_offsets_equal_zoneinfo(name: str) -> None:
    steps = calendar(name).offsets()
    zone = ZoneInfo({"XNYS": "America/New_York", "CMES": "America/Chicago"}[name])
    for at in range(ms("2000-01-01T00:00:00+00:00"), ms("2026-12-31T00:00:00+00:00"), 29 * 3_600_000 + 1_234_567):
        want = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).utcoffset()
        got = next(offset for start, offset in reversed(steps) if start <= at)
        assert want is not None
        assert got == want.total_seconds() * 1000

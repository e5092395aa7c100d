"""Expiry against dates a person can check, and against exchange_calendars asked the slow way."""

from datetime import datetime
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.signals.decide import HORIZONS
from models.trade.calendar import calendar
from models.trade.expiry import expires_ms, expiries_ms

NEW_YORK = ZoneInfo("America/New_York")


def ms(text):
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=NEW_YORK).timestamp() * 1000)


@pytest.mark.parametrize(
    ("created", "horizon", "expires"),
    [
        ("2004-03-03 16:00", "1d", "2004-03-04 16:00"),  # at the close: the next session whole
        ("2004-03-05 16:00", "1d", "2004-03-08 16:00"),  # over a weekend
        ("2004-03-05 20:00", "1d", "2004-03-08 16:00"),  # a daily bar that ends at midnight UTC
        ("2004-03-03 11:00", "1d", "2004-03-04 11:00"),  # inside a session: the same time next day
        ("2004-03-03 09:30", "1d", "2004-03-04 09:30"),
        ("2004-03-03 09:00", "1d", "2004-03-03 16:00"),  # before the open: today's session
        ("2004-04-02 16:00", "1w", "2004-04-12 16:00"),  # Good Friday 2004-04-09 is no session
        ("2004-04-02 16:00", "3d", "2004-04-07 16:00"),
        ("2001-09-10 16:00", "1d", "2001-09-17 16:00"),  # the market stayed shut
        ("2007-11-21 15:00", "1d", "2007-11-23 13:00"),  # half day after Thanksgiving
        ("2007-03-09 11:00", "1d", "2007-03-12 11:00"),  # over the change to summer time
        ("2012-10-26 16:00", "1d", "2012-10-31 16:00"),  # two days of storm
        ("2004-03-03 16:00", "2w", "2004-03-17 16:00"),
    ],
)
def test_new_york(created, horizon, expires):
    assert expires_ms(ms(created), horizon, calendar("XNYS")) == ms(expires)


@pytest.mark.parametrize(("horizon", "days"), [("1d", 1), ("3d", 3), ("1w", 7), ("2w", 14)])
def test_a_market_that_never_closes_counts_days(horizon, days):
    assert expires_ms(1_000, horizon, calendar("24/7")) == 1_000 + days * 86_400_000


@given(st.integers(946_857_600_000, 1_700_000_000_000), st.sampled_from(HORIZONS))
@settings(deadline=None, max_examples=60)
def test_against_the_calendar_itself(created, horizon):
    source = exchange_calendars.get_calendar("XNYS", start="1999-01-01", end="2026-01-01")
    at = pd.Timestamp(created, unit="ms", tz="UTC")
    count = {"1d": 1, "3d": 3, "1w": 5, "2w": 10}[horizon]
    today = source.date_to_session(at.tz_convert(NEW_YORK).date(), "previous")
    session = today if source.session_open(today) <= at else source.previous_session(today)
    end = source.sessions_window(session, count + 1)[-1]
    expected = source.session_close(end)
    if at < source.session_close(session):
        expected = min(expected, source.session_open(end) + (at - source.session_open(session)))
    assert expires_ms(created, horizon, calendar("XNYS")) == expected.value // 1_000_000


def test_arrays_agree_with_single_times():
    created = np.random.default_rng(7).integers(946_857_600_000, 1_700_000_000_000, 2_000)
    for market in (calendar("XNYS"), calendar("24/7")):
        for horizon in HORIZONS:
            singles = [expires_ms(int(at), horizon, market) for at in created]
            assert expiries_ms(created, horizon, market).tolist() == singles


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="created_ms -9000000000000 is outside"):
        expires_ms(-9_000_000_000_000, "1d", calendar("XNYS"))

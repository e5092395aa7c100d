"""What the simulators replay is the real data, and the demo that uses them says what it cannot do."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from bokeh_sampledata import stocks
from typer.testing import CliRunner

from cli.local.demo_venues import summary
from cli.main import app
from models.trade.calendar import calendar
from simulators.data import story, trading_days


def test_the_trades_of_a_day_make_its_real_bar_within_its_session() -> None:
    real = {
        day: (o, h, low, c, v)
        for day, o, h, low, c, v in zip(
            *(stocks.AAPL[name] for name in ("date", "open", "high", "low", "close", "volume")), strict=True
        )
    }
    number = days = 0
    for quarters in trading_days("AAPLUSDT", "AAPL", "2010-11-20"):  # an early close is the first Friday
        trades = [trade for quarter in quarters for trade in quarter]
        day = datetime.fromtimestamp(trades[0].timestamp_ms / 1000, UTC).date().isoformat()
        open_, high, low, close, volume = real[day]
        prices = [t.price for t in trades]
        assert (prices[0], max(prices), min(prices), prices[-1]) == (open_, high, low, close)
        assert sum(t.size for t in trades) == volume
        session = calendar("XNYS").session_on(day)
        assert [session.open_ms <= t.timestamp_ms < session.close_ms for t in trades] == [True] * 4
        assert [t.trade_id for t in trades] == [str(number + n) for n in range(1, 5)]
        assert {t.symbol for t in trades} == {"AAPLUSDT"}
        number, days = number + 4, days + 1
    assert days == sum(day >= "2010-11-20" for day in real)


def test_stories_tell_real_moves() -> None:
    days = list(trading_days("AAPL", "AAPL", "2012-01-20"))
    assert story(days[0], None) is None
    told = [
        (news.headline, news.updated_ms - day[-1][-1].timestamp_ms)
        for before, day in itertools.pairwise(days)
        if (news := story(day, before[-1][-1].price)) is not None
    ]
    assert told[0] == ("AAPL gains 6.2 % to close at 446.66", 60_000)  # 2012-01-25, after a record quarter
    assert 10 < len(told) < len(days) / 5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--venues", "kraken"], "--venues = 'kraken': must be simulated"),
        (["--venues", "simulated", "--bars", "x.csv"], "--bars, --timeframe and --symbol name a file of bars"),
    ],
)
def test_the_demo_names_what_it_cannot_do(arguments: list[str], complaint: str) -> None:
    done = CliRunner().invoke(app, ["demo", *arguments])
    assert done.exit_code == 1
    assert complaint in done.output


def test_the_demo_sums_up_what_ingestion_counted() -> None:
    text = (
        'ingest_messages_total{channel="trades",venue="alpaca"} 12.0\n'
        'ingest_messages_total{channel="bars",venue="alpaca"} 3.0\n'
        'ingest_gaps_total{channel="trades",venue="alpaca"} 2.0\n'
        'ingest_messages_created{channel="bars",venue="alpaca"} 1.7e+09\n'
        'ingest_rejected_total{channel="trades",venue="polygon"} 1.0\n'
    )
    assert summary(text) == (
        "alpaca 15 messages, 2 gaps, 0 backfilled, 0 rejected; polygon 0 messages, 0 gaps, 0 backfilled, 1 rejected"
    )

"""The performance page over what `signals outcomes` makes of 13 years of real daily bars."""

import json
import urllib.request

import pytest
import redis
import typer
from typer.testing import CliRunner

from cli.outcomes import register
from connectors.files.messages import read_outcomes
from connectors.redis.writer import RedisStore
from models.messages import encode
from models.outcomes.performance import summarise
from tests.support import real_outcomes as real

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Thousands of outcomes, as the command writes them."""
    folder = tmp_path_factory.mktemp("outcomes")
    table, _ = real.real_bars()
    signals, splits = folder / "signals.jsonl", folder / "splits.csv"
    signals.write_bytes(b"\n".join(encode(one) for one in real.make_signals(table)))
    lines = [f"{symbol},{at},{ratio}" for symbol, at, ratio in real.splits_of(table)]
    splits.write_text("\n".join(["symbol,effective_ms,ratio", *lines]))
    app = typer.Typer()
    register(app)
    made = CliRunner().invoke(app, [
        "outcomes", "--bars", str(real.STOCKS), "--timeframe", "1d", "--signals", str(signals), "--splits", str(splits),
        "--cost-bps", "10", "--out", str(folder / "outcomes.jsonl"),
    ])  # fmt: skip
    assert made.exit_code == 0, made.output
    return read_outcomes(folder / "outcomes.jsonl")


def test_the_page_tells_what_the_command_told(redis_url, relay_class, outcomes, page, tmp_path):
    store = RedisStore(redis.Redis.from_url(redis_url))
    for at in range(0, len(outcomes), 500):
        store.write_frame(outcomes=outcomes[at : at + 500])
    relay = relay_class(redis_url, tmp_path).start()
    try:
        token = relay.token("ann")
        request = urllib.request.Request(relay.url + "/api/performance", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as answer:
            told = json.loads(answer.read())
        expected = summarise(outcomes)
        total = expected.total
        assert total.count > 5_000
        assert told["total"]["signals"] == total.count
        assert told["total"]["hit_rate"] == pytest.approx(total.hit_rate)
        assert told["total"]["win_rate"] == pytest.approx(total.win_rate)
        assert told["total"]["total_pnl_percent"] == pytest.approx(total.total_pnl_percent)
        assert told["drawdown_percent"] == pytest.approx(total.max_drawdown_percent)
        assert told["curve"][-1][1] == pytest.approx(total.total_pnl_percent, abs=1e-3)
        for mine, theirs in (("by_symbol", "symbol"), ("by_reason", "exit"), ("by_side", "action")):
            assert {row["key"]: row["signals"] for row in told[mine]} == {
                row.key: row.count for row in expected.tables[theirs]
            }, mine
        assert [(row["count"], row["confidence"], row["win_rate"]) for row in told["reliability"]] == [
            pytest.approx((row.count, row.confidence, row.win_rate)) for row in expected.reliability
        ]

        page.sign_in(relay.url, token)
        page.driver.get(f"{relay.url}/#/performance")
        page.until(
            "#view-performance", str(total.count), f"{total.hit_rate:.1%}".replace("%", " %"),
            f"{total.win_rate:.1%}".replace("%", " %"), "Profit",
            f"{abs(total.total_pnl_percent):.2f} %", *("AAPL", "IBM", "MSFT", "target", "stop", "momentum"),
        )  # fmt: skip
        dots = page.driver.execute_script("return document.querySelectorAll('#view-performance circle.dot').length")
        assert dots == len(expected.reliability) >= 4
        assert page.driver.execute_script("return document.querySelectorAll('#view-performance .plot canvas').length")
        page.keep("performance")
        assert page.problems() == []
    finally:
        relay.stop()

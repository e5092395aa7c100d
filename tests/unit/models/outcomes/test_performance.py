"""The history's figures against pandas, and what must not be in them."""

import random

import numpy as np
import pandas as pd
import pytest

from cli.reports.performance_page import page
from models.messages import Outcome
from models.outcomes.performance import bucket_of, latest, max_drawdown, summarise


def outcomes(n=400, seed=3):
    rng = random.Random(seed)
    out = []
    for i in range(n):
        status = rng.choice(["hit_target", "hit_stop", "expired", "active"])
        pnl = {"hit_target": 6.0, "hit_stop": -3.0}.get(status, rng.uniform(-2, 2)) + rng.uniform(-0.5, 0.5)
        created = 1_000_000_000_000 + rng.randrange(10**9)
        out.append(
            Outcome(
                signal_id=f"s{i}-0", symbol=rng.choice(["A", "B<&>"]), status=status, entry_price=100.0,
                current_price=100.0 + pnl, target_price=106.0, stop_loss=97.0, pnl_percent=pnl, created_ms=created,
                updated_ms=created + rng.randrange(1, 10**8), action=rng.choice(["buy", "sell"]),
                time_horizon=rng.choice(["1d", "3d", "1w"]), confidence=rng.choice([0.5, 0.6, 0.7, 0.75, 0.99, 1.0]),
                bundle="b1", exit_reason="" if status == "active" else status.removeprefix("hit_"),
                votes={"m1": rng.choice(["buy", "sell"]), "m2": "hold"},
            )
        )  # fmt: skip
    return out


@pytest.mark.parametrize("dimension", ["symbol", "action", "horizon", "bundle", "confidence", "exit", "vote"])
def test_each_table_equals_pandas(dimension):
    made = outcomes()
    frame = pd.DataFrame(
        [
            {
                "id": o.signal_id, "symbol": o.symbol, "action": o.action, "horizon": o.time_horizon,
                "bundle": o.bundle, "confidence": bucket_of(o.confidence), "exit": o.exit_reason, "status": o.status,
                "pnl": o.pnl_percent, "at": o.updated_ms, "held": o.updated_ms - o.created_ms,
                "vote": [f"{m}: {a}" for m, a in o.votes.items()],
            }
            for o in made
        ]
    )  # fmt: skip
    frame = frame[frame["status"] != "active"].explode("vote")
    if dimension != "vote":
        frame = frame.drop_duplicates("id")
    frame = frame.sort_values(["at", "id"])
    rows = {row.key: row for row in summarise(made).tables[dimension]}
    assert set(rows) == set(frame[dimension])
    for key, group in frame.groupby(dimension):
        row = rows[key]
        curve = np.concatenate([[0.0], group["pnl"].cumsum()])
        assert row.count == len(group)
        assert row.hit_rate == pytest.approx((group["status"] == "hit_target").mean())
        assert row.win_rate == pytest.approx((group["pnl"] > 0).mean())
        assert row.mean_pnl_percent == pytest.approx(group["pnl"].mean(), abs=1e-12)
        assert row.total_pnl_percent == pytest.approx(group["pnl"].sum(), abs=1e-9)
        assert row.max_drawdown_percent == pytest.approx((np.maximum.accumulate(curve) - curve).max(), abs=1e-9)
        assert row.holding_hours == pytest.approx(group["held"].mean() / 3.6e6)


def test_updates_repeats_and_order_do_not_matter_and_the_void_is_left_out():
    made = outcomes()
    ended = [one for one in made if one.status != "active"]
    update = [Outcome(**{f: getattr(ended[0], f) for f in Outcome.__struct_fields__} | {"status": "active",
              "updated_ms": ended[0].created_ms})]  # fmt: skip
    void = Outcome(
        signal_id="void", symbol="A", status="expired", entry_price=1, current_price=1, target_price=2, stop_loss=0.5,
        pnl_percent=0.0, created_ms=0, updated_ms=0, exit_reason="cancelled",
    )  # fmt: skip
    shuffled = [*made, *made, *update, void]
    random.Random(1).shuffle(shuffled)
    plain, other = summarise(made), summarise(shuffled)
    assert (other.void, other.finished) == (1, plain.finished)
    assert other.tables == plain.tables
    assert other.curve == plain.curve
    assert len(latest(shuffled)) == len(made) + 1


def test_a_correction_replaces_the_verdict_before_it():
    first = outcomes(1)[0]
    fields = {f: getattr(first, f) for f in Outcome.__struct_fields__}
    corrected = Outcome(**fields | {"revision": 1, "updated_ms": first.updated_ms - 10, "pnl_percent": 1.5})
    assert [one.pnl_percent for one in latest([corrected, first])] == [1.5]


def test_reliability_is_the_share_of_wins_in_each_bucket():
    history = summarise(outcomes())
    assert [one.bucket for one in history.reliability] == ["0.5-0.6", "0.6-0.7", "0.7-0.8", "0.9-1.0"]
    for one in history.reliability:
        assert 0 <= one.low <= one.win_rate <= one.high <= 1
    assert sum(one.count for one in history.reliability) == history.finished


def test_nothing_yet():
    history = summarise([])
    assert (history.finished, history.total, history.curve) == (0, None, [])
    assert "No finished signal yet" in page(history)
    assert max_drawdown([]) == 0.0


def test_the_page_shows_every_table_and_escapes_names():
    text = page(summarise(outcomes()))
    assert text.count("<table>") == 9
    assert text.count("<svg") == 3
    assert "B&lt;&amp;&gt;" in text
    assert "B<&>" not in text
    assert "<script" not in text

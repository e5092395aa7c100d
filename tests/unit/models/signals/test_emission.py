"""When a decision is a signal: worked by hand, then as properties over random histories."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.messages import Signal
from models.signals.decide import decide, horizon_of
from models.signals.emission import (
    _CURRENT,
    CAUSES,
    STATE_COLUMNS,
    TRIGGERS,
    Policy,
    PolicyConfig,
    _horizon,
    load_policy,
)
from models.signals.protections import Halts, KillSwitch, RiskConfig, StopGuard

DAY = 86_400_000
MINUTE = 60_000
BASE = 12_418 * DAY  # 2004-01-01, UTC
SELL, HOLD, BUY, NONE = 0, 1, 2, -1
ALWAYS = lambda symbol, source: "24/7"  # noqa: E731


def bars(prices, step=DAY, base=BASE, revisions=None):
    """Bars from (open, high, low, close) or one flat price."""
    rows = []
    for i, price in enumerate(prices):
        open_, high, low, close = price if isinstance(price, tuple) else (price, price + 0.5, price - 0.5, price)
        rows.append((base + i * step, base + (i + 1) * step, open_, high, low, close, 10.0, 0))
    return np.array(rows, float)


def run(policy, table, actions, confidences=0.7, series=("AAPL", "1d", ""), **more):
    n = len(table)
    states, account = more.pop("states", policy.new_states(1)), more.pop("account", policy.new_account())
    verdicts = policy.run(
        states,
        np.zeros(1, np.int64),
        account,
        [series],
        np.zeros(n, np.int32),
        table,
        np.array(actions, np.int8),
        np.broadcast_to(np.asarray(confidences, float), n),
        np.broadcast_to(np.asarray(more.pop("atrs", 2.0), float), n),
        **more,
    )
    return [CAUSES[c] or TRIGGERS[t] for c, t in zip(verdicts.cause, verdicts.trigger, strict=True)], verdicts


def crypto(**config):
    return Policy(PolicyConfig(**config), ALWAYS)


def test_a_change_of_action_is_news_and_the_same_again_is_not():
    said, _ = run(crypto(), bars([100] * 8), [HOLD, BUY, BUY, HOLD, HOLD, BUY, SELL, SELL])
    assert said == ["unchanged", "action", "unchanged", "action", "unchanged", "action", "action", "unchanged"]


def test_holds_can_be_kept_to_oneself():
    said, _ = run(crypto(emit_holds=False), bars([100] * 5), [HOLD, BUY, HOLD, BUY, HOLD])
    assert said == ["unchanged", "action", "unchanged", "action", "unchanged"]


def test_a_step_of_confidence_is_news_since_the_last_signal_not_the_last_bar():
    confidences = [0.62, 0.66, 0.70, 0.72, 0.80, 0.61, 0.60]
    said, _ = run(
        crypto(), bars([100] * 7, step=60_000), [BUY] * 7, confidences, series=("BTCUSDT", "1m", ""), atrs=0.05
    )
    assert said == ["action", "unchanged", "unchanged", "confidence", "unchanged", "confidence", "unchanged"]


def test_the_signal_is_renewed_when_it_expires():
    said, _ = run(crypto(), bars([100] * 8), [BUY] * 8, 0.7)  # .7: three days
    assert said == ["action", "unchanged", "unchanged", "expiry", "unchanged", "unchanged", "expiry", "unchanged"]


def test_stocks_expire_by_sessions():
    table = bars([100] * 6, base=12_416 * DAY)  # 2003-12-30, a Tuesday: the signal is made when its day is over in UTC
    said, _ = run(Policy(), table, [BUY] * 6, 0.9)
    # one session on: Wednesday 31st ends at 21:00 UTC, so the bar that ends at midnight renews it; 2004-01-01 has no
    # session, nor the weekend: Friday 2nd ends the second signal
    assert said == ["action", "expiry", "unchanged", "expiry", "unchanged", "unchanged"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"atrs": np.nan}, "no_atr"),
        ({"atrs": 0.0}, "no_atr"),
        ({"ready": np.array([False])}, "missing_feature"),
        ({"halted": np.array([True])}, "halted"),
        ({"atrs": 60.0}, "level_not_positive"),
    ],
)
def test_what_withholds_a_signal_is_named_and_counted(change, cause):
    said, verdicts = run(crypto(), bars([100]), [BUY], **change)
    assert said == [cause]
    assert verdicts.counts() == {cause: 1}
    assert not verdicts.emit.any()


def test_no_model_no_news():
    assert run(crypto(), bars([100]), [NONE], np.nan)[0] == ["no_models"]


def test_a_withheld_signal_is_said_when_nothing_forbids_it_any_more():
    halted = np.array([True, True, False, False])
    assert run(crypto(), bars([100] * 4), [BUY] * 4, halted=halted)[0] == ["halted", "halted", "action", "unchanged"]


def test_short_bars_speak_only_in_session():
    open_ms = 1_078_324_200_000  # 2004-03-03 09:30 New York
    table = bars([100] * 3, step=MINUTE, base=open_ms - 2 * MINUTE)
    said, _ = run(Policy(), table, [BUY] * 3, series=("AAPL", "1m", ""))
    assert said == ["closed", "closed", "action"]
    assert run(Policy(PolicyConfig(session_only=False)), table, [BUY] * 3, series=("AAPL", "1m", ""))[0][0] == "action"


def test_cooldown_of_a_symbol_delays_a_change():
    policy = crypto(risk=RiskConfig(symbol_cooldown_ms=3 * DAY))
    said, _ = run(policy, bars([100] * 6), [BUY, SELL, SELL, SELL, BUY, HOLD])
    # a hold is never withheld
    assert said == ["action", "cooldown", "cooldown", "action", "cooldown", "action"]


def test_stop_loss_guard_of_a_symbol():
    guard = StopGuard(stops=2, window_ms=10 * DAY, pause_ms=2 * DAY)
    policy = crypto(risk=RiskConfig(symbol_stops=guard))
    crash = (100, 100, 50, 100)  # every open buy is stopped
    said, _ = run(policy, bars([100, crash, crash, crash, 100, 100]), [BUY, SELL, BUY, BUY, SELL, SELL], 0.9)
    # the buy of bar 0 is stopped in bar 1; the sell of bar 1 reaches its target in bar 2; the buy of bar 2 is stopped
    # in bar 3, the second stop: two days of pause from its end
    assert said == ["action", "action", "action", "stop_guard", "stop_guard", "action"]


def test_drawdown_halt_of_the_account_and_global_cooldown_between_symbols():
    policy = crypto(risk=RiskConfig(drawdown_percent=2.5, drawdown_pause_ms=3 * DAY))
    crash = (100, 100, 50, 100)
    said, _ = run(policy, bars([100, crash, 100, 100, 100, 100]), [BUY, SELL, SELL, SELL, SELL, SELL], 0.9)
    # a buy at 100 with ATR 2 risks 3 %: at the stop in bar 1 the account is 3 % below its peak
    assert said[:5] == ["action", "drawdown", "drawdown", "drawdown", "action"]

    policy = crypto(risk=RiskConfig(global_cooldown_ms=2 * DAY))
    table = np.repeat(bars([100] * 3), 2, axis=0)
    verdicts = policy.run(
        policy.new_states(2),
        np.array([0, 1]),
        policy.new_account(),
        [("B", "1d", ""), ("A", "1d", "")],
        np.array([0, 1] * 3, np.int32),
        table,
        np.full(6, BUY, np.int8),
        np.full(6, 0.7),
        np.full(6, 2.0),
    )
    # at equal times the symbols go by name: A first, B two days later
    named = [CAUSES[c] or TRIGGERS[t] for c, t in zip(verdicts.cause, verdicts.trigger, strict=True)]
    assert named == ["global_cooldown", "action", "global_cooldown", "unchanged", "action", "unchanged"]


def test_stop_loss_guard_of_the_account():
    guard = StopGuard(stops=1, window_ms=DAY, pause_ms=2 * DAY)
    policy = crypto(risk=RiskConfig(global_stops=guard))
    said, _ = run(policy, bars([100, (100, 100, 50, 100), 100, 100]), [BUY, SELL, SELL, SELL], 0.9)
    assert said == ["action", "global_stop_guard", "global_stop_guard", "action"]


def test_a_revised_bar_gives_the_next_revision_or_a_cancellation():
    policy = crypto()
    states, account = policy.new_states(1), policy.new_account()
    shared = {"states": states, "account": account}
    table = bars([100, 101])
    assert run(policy, table[:1], [HOLD], **shared)[0] == ["unchanged"]
    assert run(policy, table[1:], [BUY], **shared)[0] == ["action"]
    revised = table[1:].copy()
    revised[0, 7] = 1
    said, verdicts = run(policy, revised, [SELL], **shared)
    assert (said, verdicts.cancels.tolist()) == (["revision"], [-1])
    revised[0, 7] = 2
    said, verdicts = run(policy, revised, [HOLD], **shared)
    assert (said, verdicts.cancels.tolist()) == (["unchanged"], [1])
    revised[0, 7] = 3
    said, verdicts = run(policy, revised, [HOLD], **shared)
    assert (said, verdicts.cancels.tolist()) == (["unchanged"], [-1])


histories = st.lists(
    st.tuples(
        st.sampled_from([SELL, HOLD, BUY, NONE]),
        st.floats(0.34, 0.99),
        st.floats(-0.06, 0.06),
        st.floats(0.0, 0.05),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)
TOUGH = RiskConfig(
    symbol_cooldown_ms=2 * DAY,
    symbol_stops=StopGuard(stops=2, window_ms=20 * DAY, pause_ms=5 * DAY),
    global_stops=StopGuard(stops=3, window_ms=20 * DAY, pause_ms=5 * DAY),
    drawdown_percent=10.0,
    drawdown_pause_ms=7 * DAY,
    cost_bps=5.0,
)


def build(history):
    """A history as policy input: bars, actions, confidences, ready."""
    price, rows = 100.0, []
    for i, (_, _, move, width, _) in enumerate(history):
        open_, price = price, price * (1 + move)
        high, low = max(open_, price) * (1 + width), min(open_, price) * (1 - width)
        rows.append((BASE + i * DAY, BASE + (i + 1) * DAY, open_, high, low, price, 1.0, 0))
    return (
        np.array(rows),
        np.array([h[0] for h in history], np.int8),
        np.array([h[1] for h in history]),
        np.array([h[4] for h in history]),
    )


@given(histories, st.data())
@settings(deadline=None, max_examples=60)
def test_verdicts_do_not_depend_on_how_frames_are_cut(history, data):
    table, actions, confidences, ready = build(history)
    policy = Policy(PolicyConfig(risk=TOUGH))
    whole, _ = run(policy, table, actions, confidences, ready=ready)
    states, account = policy.new_states(1), policy.new_account()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(table)), max_size=8)) | {0, len(table)})
    pieces = []
    for a, b in itertools.pairwise(cuts):
        pieces += run(
            policy, table[a:b], actions[a:b], confidences[a:b], ready=ready[a:b], states=states, account=account
        )[0]
    assert pieces == whole


@given(histories, histories)
@settings(deadline=None, max_examples=60)
def test_a_revision_leaves_the_series_as_if_its_first_version_had_never_been(history, other):
    table, actions, confidences, ready = build(history)
    _, wrong_actions, wrong_confidences, _ = build(other)
    wrong = table[-1:].copy()
    wrong[0, 2:6] = 100.0 + 50.0 * (other[0][2] > 0), 200.0, 1.0, 100.0
    right = table[-1:].copy()
    right[0, 7] = 1
    policy = Policy(PolicyConfig(risk=RiskConfig(symbol_cooldown_ms=2 * DAY, symbol_stops=TOUGH.symbol_stops)))
    ends = []
    for with_wrong in (False, True):
        states, account = policy.new_states(1), policy.new_account()
        shared = {"states": states, "account": account}
        run(policy, table[:-1], actions[:-1], confidences[:-1], ready=ready[:-1], **shared)
        if with_wrong:
            run(policy, wrong, wrong_actions[:1], wrong_confidences[:1], **shared)
        said, _ = run(policy, right, actions[-1:], confidences[-1:], ready=ready[-1:], **shared)
        ends.append((said, states[0, :_CURRENT].tolist(), round(account[0], 9)))
    assert ends[0] == ends[1]


@given(histories)
@settings(deadline=None, max_examples=60)
def test_against_the_rules_read_literally(history):
    """News by a plain loop over the same history (24/7, no protections)."""
    table, actions, confidences, ready = build(history)
    said, _ = run(crypto(), table, actions, confidences, ready=ready)
    last = last_confidence = until = None
    expected = []
    for bar, action, confidence, sound in zip(table, actions.tolist(), confidences, ready, strict=True):
        end = bar[1]
        if action == NONE:
            expected.append("no_models")
            continue
        if action == last:
            step = action != HOLD and abs(confidence - last_confidence) >= 0.1 - 1e-9
            why = "confidence" if step else "expiry" if action != HOLD and end >= until else "unchanged"
        else:
            why = "unchanged" if action == HOLD and last is None else "action"
        if why == "unchanged":
            last = HOLD if action == HOLD else last
        elif not sound:
            why = "missing_feature"
        else:
            last, last_confidence = action, confidence
            until = end + {"1d": 1, "3d": 3, "1w": 7}[horizon_of(confidence)] * DAY
        expected.append(why)
    assert said == expected


@given(histories)
@settings(deadline=None, max_examples=40)
def test_what_the_policy_lets_through_is_always_decided(history):
    table, actions, confidences, ready = build(history)
    _, verdicts = run(Policy(), table, actions, confidences, ready=ready)
    for i in np.flatnonzero(verdicts.emit).tolist():
        signal = decide(
            symbol="AAPL",
            timeframe="1d",
            end_ms=int(table[i, 1]),
            price=table[i, 5],
            atr=2.0,
            action=("sell", "hold", "buy")[actions[i]],
            confidence=confidences[i],
            votes={"a": ("buy", 0.5)},
            required=(),
        )
        assert isinstance(signal, Signal), signal


@given(st.floats(0.0, 1.0))
@settings(deadline=None)
def test_the_compiled_horizon_is_the_published_one(confidence):
    assert ("1d", "3d", "1w")[_horizon(confidence)] == horizon_of(confidence)


def test_the_kill_switch_and_its_repeats():
    halts = Halts()
    kill = KillSwitch(kind="kill", effective_ms=100, reason="operator")
    for message in (kill, kill, KillSwitch(kind="kill", symbol="B", effective_ms=50)):
        halts.apply(message)
    ends = np.array([50.0, 51.0, 100.0, 101.0])
    index = np.array([0, 1, 0, 1])
    assert halts.mask(["A", "B"], index, ends).tolist() == [False, True, False, True]
    halts.apply(KillSwitch(kind="resume", effective_ms=200))
    again = Halts.decode(halts.encode())
    assert again.spans == {"*": [(100, 200)], "B": [(50, None)]}
    assert Halts().mask(["A"], np.zeros(1, np.int64), ends[:1]) is None


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RiskConfig(symbol_cooldown_ms=-1), "risk.symbol_cooldown_ms = -1"),
        (lambda: RiskConfig(global_stops=StopGuard(stops=9)), "risk.global_stops.stops = 9"),
        (lambda: PolicyConfig(confidence_step=0.0), "policy.confidence_step = 0.0"),
    ],
)
def test_a_limit_outside_its_range_is_refused(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_fresh_rows_have_the_published_width():
    assert Policy().new_states(3).shape == (3, STATE_COLUMNS)


def test_a_policy_file_is_read_and_its_faults_named(tmp_path):
    file = tmp_path / "policy.json"
    file.write_text('{"confidence_step": 0.2, "risk": {"symbol_stops": {"stops": 3}}}')
    assert load_policy(file) == PolicyConfig(confidence_step=0.2, risk=RiskConfig(symbol_stops=StopGuard(stops=3)))
    for text, named in (
        ('{"confidence_stop": 1}', "confidence_stop"),
        ('{"risk": {"drawdown_percent": -1}}', "drawdown_percent = -1"),
        ("{", "policy.json"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=named):
            load_policy(file)
    with pytest.raises(ValueError, match=r"none\.json cannot be read"):
        load_policy(tmp_path / "none.json")


def test_switched_off_protections_withhold_nothing_when_time_runs_backwards_between_symbols():
    policy = crypto()
    states, account = policy.new_states(2), policy.new_account()
    table = np.concatenate([bars([100] * 3, base=BASE + 30 * DAY), bars([100] * 3)])
    verdicts = policy.run(
        states, np.arange(2), account, [("B", "1d", ""), ("A", "1d", "")], np.repeat(np.arange(2, dtype=np.int32), 3),
        table, np.array([BUY, SELL, BUY] * 2, np.int8), np.full(6, 0.7), np.full(6, 2.0),
    )  # fmt: skip
    assert [CAUSES[cause] for cause in verdicts.cause] == [""] * 6

"""State of another layout is understood or refused by name; it is never taken for something else."""

import numpy as np
import pytest

from models.outcomes.tracker import Tracker
from models.signals.emission import STATE_COLUMNS, Policy
from models.signals.protections import ACCOUNT_COLUMNS
from udfs.kernel.compiler import FeatureConfig, Kernel
from udfs.operators.signals import ACCOUNT, HALTS, LAST_EMITTED
from udfs.state.layout import StateLayoutError
from udfs.steps.outcome_frames import BARS, SIGNALS, SPLITS, changed_records, restore

KINDS = [LAST_EMITTED, ACCOUNT, HALTS, SIGNALS, BARS, SPLITS]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_record_comes_back_and_one_from_before_versions_too(kind):
    payload = bytes(range(40)).ljust(kind.size or 40, b"\0")
    assert kind.read(kind.write(payload)) == payload
    assert kind.read(payload) == payload


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_newer_layout_is_refused_with_both_versions_and_the_remedy(kind):
    record = kind.head + str(kind.version + 1).encode() + b"\0" * 400
    wanted = rf"holds {kind.name} in layout {kind.version + 1}, this program reads 0, {kind.version}: start the program"
    with pytest.raises(StateLayoutError, match=wanted):
        kind.read(record)


def test_rows_of_another_width_are_refused():
    wider = np.zeros(STATE_COLUMNS + 1).tobytes()
    with pytest.raises(StateLayoutError, match=f"last emission of a series in {8 * STATE_COLUMNS + 8} bytes"):
        LAST_EMITTED.read(LAST_EMITTED.write(wider))
    with pytest.raises(StateLayoutError, match="account of a symbol group in 8 bytes"):
        ACCOUNT.read(np.zeros(1).tobytes())


def test_no_row_that_was_ever_written_looks_like_a_head():
    # the first four bytes of a series' row are those of -1, 0, 1 or 2 as float64; of an account's the equity's
    assert Policy().new_states(1).tobytes()[:3] != LAST_EMITTED.head
    assert len(np.zeros(ACCOUNT_COLUMNS).tobytes()) != len(ACCOUNT.write(b"")) + ACCOUNT.size


KERNEL = Kernel(FeatureConfig(families=("momentum", "rsi")))


@pytest.mark.parametrize("spoil", [lambda r: r[:-8], lambda r: r + bytes(8), lambda r: r[:-3]])
def test_features_cut_short_are_refused(spoil):
    other = Kernel(FeatureConfig(families=("momentum",)))
    record = spoil(other.encode_state(other.new_states(1)[0]))
    with pytest.raises(StateLayoutError, match=r"holds features in \d+ bytes, by its own table \d+"):
        KERNEL.decode_state(record)


def test_features_of_a_newer_layout_or_other_context_are_refused():
    record = KERNEL.encode_state(KERNEL.new_states(1)[0])
    with pytest.raises(StateLayoutError, match="features in layout 2, this program reads 1"):
        KERNEL.decode_state(b"SPK2" + record[4:])
    with pytest.raises(StateLayoutError, match=r"other context cells .*\(start_ms, end_ms,"):
        KERNEL.decode_state(record[:8] + bytes([record[8] ^ 1]) + record[9:])


def test_features_of_the_same_layout_but_cut_short_are_refused():
    record = KERNEL.encode_state(KERNEL.new_states(1)[0])
    with pytest.raises(StateLayoutError, match="holds features in"):
        KERNEL.decode_state(record[:-8])


def test_a_tracker_is_restored_from_records_without_and_with_versions():
    from models.messages import Bar, Signal

    signal = Signal(
        signal_id="x-0", symbol="A", timeframe="1d", action="buy", confidence=0.7, entry_price=10.0,
        target_price=20.0, stop_loss=5.0, time_horizon="3d", created_ms=0, emitted_ms=0, expires_ms=259_200_000,
        reasoning="",
    )  # fmt: skip
    bar = Bar(symbol="A", timeframe="1d", start_ms=0, end_ms=86_400_000, open=10, high=12, low=9, close=11, volume=1)
    tracker = Tracker()
    tracker.take([signal], [bar], [("A", 172_800_000, 2.0)])
    kept = dict(changed_records(tracker))
    assert {data[:4] for data in kept.values()} == {b"SPT1", b"SPB1", b"SPX1"}
    following = Bar(
        symbol="A", timeframe="1d", start_ms=86_400_000, end_ms=172_800_000,
        open=11, high=21, low=10, close=20, volume=1,
    )  # fmt: skip
    wanted = tracker.take(bars=[following])
    for records in (kept, {key: data[4:] for key, data in kept.items()}):
        again = Tracker()
        restore(again, records)
        assert again.take(bars=[following]) == wanted
    assert [one.status for one in wanted] == ["hit_target"]

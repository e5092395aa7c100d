"""The frame loop: cuts, restores, revisions, repeats, late and invalid bars, and changes of the catalogue."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.series import walk
from udfs.kernel.compiler import DUPLICATE, INVALID, LATE, OK, REVISED, FeatureConfig, Kernel

KERNEL = Kernel()


def whole(bars, rows=None, kernel=KERNEL):
    rows = np.zeros(len(bars), np.int64) if rows is None else rows
    return kernel.compute(kernel.new_states(int(rows.max()) + 1), rows, bars)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_cuts_and_restores_change_no_bit(data):
    bars = np.vstack([walk(150, seed) for seed in range(3)])
    rows = np.repeat(np.arange(3), 150)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(len(rows))
    order = order[np.argsort(bars[order, 0], kind="stable")]
    bars, rows = bars[order], rows[order]
    _, out, quality = whole(bars, rows)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows) - 1), max_size=60)))
    restores = data.draw(st.sets(st.integers(0, len(cuts)), max_size=10))
    states = KERNEL.new_states(3)
    for k, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        if k in restores:
            states = np.array([KERNEL.decode_state(KERNEL.encode_state(row)) for row in states])
        _, some, mask = KERNEL.compute(states, rows[a:b], bars[a:b])
        assert some.tobytes() == out[a:b].tobytes()
        assert mask.tobytes() == quality[a:b].tobytes()


def test_one_bar_a_frame_changes_no_bit():
    bars = walk(400)
    _, out, _ = whole(bars)
    states = KERNEL.new_states(1)
    for i in range(len(bars)):
        assert KERNEL.compute(states, np.zeros(1, np.int64), bars[i : i + 1])[1].tobytes() == out[i : i + 1].tobytes()


def test_every_missing_value_has_a_reason():
    bars = walk(600)
    bars[300:340, 2:6] = bars[299, 5]
    bars[300:340, 6] = 0
    bars[50, 6] = np.nan
    _, out, quality = whole(bars)
    assert np.array_equal(np.isnan(out), quality != ord("."))
    assert np.isfinite(out[quality == ord(".")]).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 299), max_size=20), st.integers(0, 9))
def test_a_revised_bar_equals_never_having_seen_the_first(where, seed):
    final = walk(300, seed)
    wrong = walk(300, seed + 100)
    stream, keep = [], []
    for i, bar in enumerate(final):
        times = where.count(i)
        for revision in range(times):
            first = wrong[i].copy()
            first[[0, 1, 7]] = (bar[0], bar[1], revision)
            stream.append(first)
        last = bar.copy()
        last[7] = times
        keep.append(len(stream))
        stream.append(last)
    verdicts, out, quality = whole(np.array(stream))
    _, clean, mask = whole(final)
    assert out[keep].tobytes() == clean.tobytes()
    assert quality[keep].tobytes() == mask.tobytes()
    assert [REVISED if i in where else OK for i in range(300)] == verdicts[keep].tolist()


def test_repeated_late_and_invalid_bars_leave_the_state_alone():
    bars = walk(300)
    _, out, _ = whole(bars)
    states = KERNEL.new_states(1)
    row = np.zeros(1, np.int64)
    for i, bar in enumerate(bars):
        verdict, some, _ = KERNEL.compute(states, row, bar[None])
        assert verdict[0] == OK
        assert some.tobytes() == out[i].tobytes()
        before = states.copy()
        inverted = bar.copy()
        inverted[0] += 60_000
        inverted[1] += 60_000
        inverted[3] = inverted[4] / 2
        for other, outcome in ((bar, DUPLICATE), (bars[max(i - 1, 0)], LATE if i else DUPLICATE), (inverted, INVALID)):
            verdict, some, mask = KERNEL.compute(states, row, other[None])
            assert verdict[0] == outcome
            assert np.isnan(some).all()
            assert bytes(mask[0]) == b"s" * len(KERNEL.names)
            assert states.tobytes() == before.tobytes()


@pytest.mark.parametrize("field", [2, 3, 4, 5])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_a_price_that_is_no_price_is_invalid(field, value):
    bars = walk(1)
    bars[0, field] = value
    assert whole(bars)[0].tolist() == [INVALID]


def test_a_jump_masks_what_rests_on_it():
    bars = walk(500)
    bars[300:, 2:6] *= 1000
    verdicts, out, quality = whole(bars)
    assert (verdicts == OK).all()
    column = KERNEL.column_of("rsi_14")
    assert bytes(quality[299:316, column]) == b"." + b"g" * 14 + b".."
    assert bytes(quality[300, [KERNEL.column_of("ma_200"), KERNEL.column_of("momentum_1")]]) == b"gg"
    assert out[300, KERNEL.column_of("current_price")] == bars[300, 5]


def test_adding_a_family_starts_it_cold_and_keeps_the_others():
    small = Kernel(FeatureConfig(families=("rsi", "volume")))
    large = Kernel(FeatureConfig(families=("bbands", "rsi", "macd", "volume")))
    bars = walk(200)
    zeros = np.zeros(len(bars), np.int64)
    _, kept, _ = small.compute(small.new_states(1), zeros, bars)
    _, fresh, fresh_mask = large.compute(large.new_states(1), zeros[100:], bars[100:])
    states = small.new_states(1)
    small.compute(states, zeros[:100], bars[:100])
    moved = large.decode_state(small.encode_state(states[0]))[None].copy()
    _, out, mask = large.compute(moved, zeros[100:], bars[100:])
    for name in small.names:
        assert out[:, large.column_of(name)].tobytes() == kept[100:, small.column_of(name)].tobytes()
    for name in ("macd", "bb_position"):
        column = large.column_of(name)
        assert out[:, column].tobytes() == fresh[:, column].tobytes()
        assert mask[:, column].tobytes() == fresh_mask[:, column].tobytes()
    back = small.decode_state(large.encode_state(moved[0]))[None].copy()
    small.compute(states, zeros[100:], bars[100:])
    assert back.tobytes() == states.tobytes()


def test_a_changed_parameter_changes_the_hash_and_starts_the_family_cold():
    usual = Kernel(FeatureConfig(families=("macd", "rsi")))
    other = Kernel(FeatureConfig(families=("macd", "rsi"), parameters={"rsi": {"period": 10}}))
    assert other.feature_set_hash != usual.feature_set_hash
    assert other.layout_hash != usual.layout_hash
    states = usual.new_states(1)
    usual.compute(states, np.zeros(100, np.int64), walk(100))
    moved = other.decode_state(usual.encode_state(states[0]))[None].copy()
    following = walk(101)[100:]
    _, _, mask = other.compute(moved, np.zeros(1, np.int64), following)
    assert chr(mask[0, other.column_of("rsi_10")]) == "w"
    assert chr(mask[0, other.column_of("macd")]) == "."


def test_unknown_names_say_what_there_is():
    with pytest.raises(ValueError, match=r"family 'rsy' does not exist; there are: .*rsi"):
        Kernel(FeatureConfig(families=("rsy",)))
    with pytest.raises(ValueError, match=r"no parameter 'length'; it has: .*period"):
        Kernel(FeatureConfig(parameters={"rsi": {"length": 3}}))
    with pytest.raises(KeyError, match="feature 'rsi_15' is not computed"):
        KERNEL.column_of("rsi_15")
    with pytest.raises(
        ValueError, match="state holds features in layout 0, this program reads 1: start the program that took"
    ):
        KERNEL.decode_state(b"nonsense")


def test_any_layout_of_the_input_gives_the_same_bits():
    bars = walk(50)
    _, out, _ = whole(bars)
    sideways = np.asfortranarray(bars)
    frozen = np.frombuffer(bars.tobytes()).reshape(bars.shape)
    narrow = np.ascontiguousarray(bars[:, :8])
    for other in (sideways, frozen):
        assert whole(other, np.zeros(50, np.int32))[1].tobytes() == out.tobytes()
    assert whole(narrow)[1][:, KERNEL.column_of("ma_20")].tobytes() == out[:, KERNEL.column_of("ma_20")].tobytes()

"""Exits over price paths worked out by hand."""

import numpy as np
import pytest

from models.trade.exits import ACTIVE, HIT_TARGET, check_bar, pnl_percent, walk, walk_all
from tests.support.price_paths import BUY, CASES, SELL, columns


def test_the_tables_are_large_enough():
    assert len(BUY) >= 20
    assert len(SELL) >= 20


@pytest.mark.parametrize(("side", "target", "stop", "path", "verdict"), CASES)
def test_verdict(side, target, stop, path, verdict):
    assert walk(side, 100.0, target, stop, 50, *columns(path), 0) == verdict


@pytest.mark.parametrize(("side", "target", "stop", "path", "verdict"), CASES)
def test_many_at_once_give_the_same(side, target, stop, path, verdict):
    ones = np.ones(3)
    status, index, price = walk_all(
        side * ones, 100 * ones, target * ones, stop * ones, 0 * ones, 50 * ones, *columns(path)
    )
    assert [tuple(row) for row in zip(status, index, price, strict=True)] == [verdict] * 3


def test_bars_before_the_creation_are_not_on_the_path():
    path = columns([(100, 120, 80, 100), (100, 101, 99, 100), (100, 107, 99, 106)])
    assert walk(1, 100.0, 106.0, 97.0, 50, *path, 1) == (HIT_TARGET, 2, 106.0)


def test_a_hold_ends_only_by_time():
    assert check_bar(0, 100.0, 100.0, 100.0, 150.0, 50.0, 120.0) == (ACTIVE, 120.0)


@pytest.mark.parametrize(
    ("side", "exit_", "cost_bps", "percent"),
    [(1, 106, 0, 6), (1, 97, 0, -3), (-1, 94, 0, 6), (-1, 103, 0, -3), (1, 106, 10, 5.9), (-1, 103, 25, -3.25)],
)
def test_profit_is_signed_by_side_after_costs(side, exit_, cost_bps, percent):
    assert pnl_percent(side, 100.0, exit_, cost_bps) == pytest.approx(percent, abs=1e-12)

"""The checks find nothing on good features and something on bad ones; the page is current; the commands work."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from udfs.kernel.compiler import Kernel
from udfs.offline import checks
from udfs.offline.docs import page

ROOT = Path(__file__).resolve().parents[4]
KERNEL = Kernel()


class Leaky(Kernel):
    """A kernel whose values depend on the size of the frame, and so on later bars."""

    def run(self, states, rows, bars, out, quality):
        verdicts = super().run(states, rows, bars, out, quality)
        out[:, 0] = bars[-1, 5]
        quality[:, 0] = ord(".")
        return verdicts


def real_minutes():
    """Real minutes, which are not part of the repository."""
    folder = ROOT.parent / "shared" / "data"
    files = sorted(folder.glob("*_1m_*.tsv.gz"))
    if not files:
        pytest.skip(f"no recorded minutes (*_1m_*.tsv.gz) in {folder}; generated ones are tested")
    return checks.read_bars(files[0], timeframe="1m")[0]


@pytest.mark.parametrize("which", ["daily", "minutes", "generated"])
def test_parity_agreement_and_no_lookahead(which):
    table = {
        "daily": checks.real_daily,
        "minutes": real_minutes,
        "generated": lambda: checks.synthetic_minutes(8, 2500),
    }[which]()
    found = checks.parity(KERNEL, table, seed=3)
    assert (found.bars, found.different) == (len(table), 0)
    assert found.frames > 5
    for indicator in checks.agreement(KERNEL, table):
        assert indicator.worst <= 1e-9, indicator
        assert indicator.compared > 0.8 * len(table) - 250 * table["symbol"].nunique()
    seen = checks.lookahead(KERNEL, table.head(6000), cuts=3)
    assert seen.changed == 0
    assert seen.compared > 1000


def test_every_published_warm_up_holds():
    for table in (checks.real_daily(), real_minutes()):
        found = checks.convergence(KERNEL, table, starts=6)
        assert [c.feature for c in found if not c.holds] == []
        by_name = {c.feature: c for c in found}
        assert by_name["rsi_14"].after[20] > 0.01
        assert by_name["rsi_14"].after[400] < 1e-6


def test_the_checks_catch_a_kernel_that_looks_ahead():
    table = checks.synthetic_minutes(2, 1000)
    leaky = Leaky()
    assert checks.parity(leaky, table).different > 0
    assert checks.lookahead(leaky, table, cuts=2).changed > 0


def test_convergence_catches_a_warm_up_that_is_too_short():
    found = {c.feature: c for c in checks.convergence(KERNEL, checks.real_daily(), starts=3)}
    short = checks.Convergence("adx", 28, 28, found["adx"].measured, found["adx"].after)
    assert not short.holds


def test_the_page_is_current():
    assert (ROOT / "docs" / "features.md").read_text() == page(), "run: signals check features-docs --write"


def test_the_commands_take_anyones_bars(tmp_path):
    from cli.main import app

    table = checks.synthetic_minutes(1, 2000).drop(columns=["timeframe", "end_ms"])
    source = tmp_path / "own.csv.gz"
    table.to_csv(source, index=False)
    for command in (
        ["talib"],
        ["convergence"],
        ["lookahead", "--cuts", "2"],
        ["parity", "--synthetic", "5000", "--no-flink"],
    ):
        result = CliRunner().invoke(app, ["check", *command, "--bars", str(source)])
        assert result.exit_code == 0, result.output
        assert "ok" in result.output
        assert "own.csv.gz" in result.output
    failed = CliRunner().invoke(app, ["check", "talib", "--bars", str(tmp_path / "no.csv")])
    assert failed.exit_code == 1
    assert np.isfinite(len(failed.output))

"""A few faults against the whole system; `make chaos` does 200, of every kind (docs/chaos.md)."""

import pytest

from tests.chaos.__main__ import run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

#: Faults that recover in seconds. TaskManagers are killed in tests/integration/test_faults.py.
CHEAP = ["poison", "duplicate", "late", "skew", "relay", "redis"]
SEED = 41


def test_a_few_faults_leave_no_trace_but_their_dead_letters(tmp_path):
    result = run(len(CHEAP), SEED, 4, tmp_path, CHEAP, per_s=60, high_availability=False)
    assert result["faults"] == len(CHEAP)
    assert (result["lost"], result["wrong"], result["duplicates"]) == (0, 0, 0), result["differences"]
    compared = result["compared"]
    assert compared["features"] == result["bars"] > 1_000
    assert min(compared[what] for what in ("signals", "outcomes", "received by the relay's client")) > 100
    assert compared["dead letters of injected messages"] >= 3

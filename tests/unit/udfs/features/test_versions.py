"""A family's formulas change only with its VERSION."""

import json

import pytest

from tests.support.golden_features import FILE, computed

STORED = json.loads(FILE.read_text())
COMPUTED = computed()


def test_every_family_is_stored():
    assert STORED.keys() == COMPUTED.keys(), "run `python -m tests.support.golden_features`"


@pytest.mark.parametrize("name", STORED)
def test_the_outputs_are_those_of_the_version(name):
    stored, now = STORED[name], COMPUTED[name]
    advice = f"{name}: formulas changed? raise its VERSION, then run `python -m tests.support.golden_features`"
    assert now["version"] == stored["version"], advice
    assert now["outputs"].keys() == stored["outputs"].keys(), advice
    for output, values in stored["outputs"].items():
        for value, expected in zip(now["outputs"][output], values, strict=True):
            assert (value is None) == (expected is None), advice
            if expected is not None:
                assert value == pytest.approx(expected, rel=1e-9, abs=1e-12), advice

"""A new feature family is one file: jobs compute it, and every shipped bundle still starts and scores the same."""

import numpy as np
import pytest

import udfs.features
from models.serving.bundle import bundle_names, bundle_path, columns_of, load_bundle
from tests.support.series import walk
from udfs.kernel import catalogue
from udfs.kernel.catalogue import FeatureConfig, feature_set
from udfs.kernel.compiler import Kernel
from udfs.steps.decide_frames import require_features

FAMILY = """
'''The bar's range over its close. Unit: ratio.'''
from models.bar_columns import CLOSE, HIGH, LOW
from udfs.features.base import Output, State
VERSION = 1
PARAMETERS = {}
def state(p): return State()
def outputs(p): return (Output("range_to_close", "ratio", 1, "(high - low) / close", 0),)
def constants(p): return ()
def step(count, bar, context, scalars, rings, out, quality, constants):
    out[0] = (bar[HIGH] - bar[LOW]) / bar[CLOSE]
"""


@pytest.fixture
def range_family(tmp_path, monkeypatch):
    """The family in a folder of its own, beside the shipped ones."""
    (tmp_path / "bar_range.py").write_text(FAMILY)
    monkeypatch.setattr(udfs.features, "__path__", [*udfs.features.__path__, str(tmp_path)])
    yield "bar_range"
    import sys

    sys.modules.pop("udfs.features.bar_range", None)


def compute(kernel, bars):
    _, out, quality = kernel.compute(kernel.new_states(1), np.zeros(len(bars), np.int64), bars)
    return out, quality


def test_the_shipped_bundles_start_and_score_the_same_beside_it(range_family):
    bars = walk(400)
    wide = Kernel(FeatureConfig())
    shipped = Kernel(FeatureConfig(families=tuple(set(catalogue.families()) - {range_family})))
    assert range_family in wide.feature_set.families
    assert wide.feature_set.hash != shipped.feature_set.hash
    require_features(wide.names)
    values, _ = compute(wide, bars)
    expected, _ = compute(shipped, bars)
    assert (values[:, wide.column_of("range_to_close")] == (bars[:, 3] - bars[:, 4]) / bars[:, 5]).all()
    for name in bundle_names():
        bundle = load_bundle(bundle_path(name))
        bundle.check_features(wide.feature_set)  # what the job asks at its start
        ours = values[:, columns_of(bundle.features, wide.names)]
        theirs = expected[:, columns_of(bundle.features, shipped.names)]
        assert ours.tobytes() == theirs.tobytes()
        assert bundle.score(ours).probabilities.tobytes() == bundle.score(theirs).probabilities.tobytes()
        bundle.close()


def test_a_family_that_a_bundle_needs_must_be_the_one_it_was_trained_on():
    other = feature_set(FeatureConfig(parameters={"stoch": {"overbought": 81.0}}))
    unused = feature_set(FeatureConfig(lookback_periods=(5, 10, 20, 50, 100, 200)))
    for name in bundle_names():
        bundle = load_bundle(bundle_path(name))
        bundle.check_features(unused)
        with pytest.raises(ValueError, match=r"feature family 'stoch' .*, the job computes .*: run the job with"):
            bundle.check_features(other)
        bundle.close()


@pytest.mark.parametrize(
    ("config", "lacking"),
    [(FeatureConfig(parameters={"rsi": {"period": 10}}), "rsi_14"),
     (FeatureConfig(families=("rsi", "macd")), "volume_vs_ma_20, current_price, atr_14")],
)  # fmt: skip
def test_a_configuration_that_lacks_what_deciding_reads_is_refused_by_name(config, lacking):
    with pytest.raises(ValueError, match=f"deciding reads {lacking}, which it does not compute"):
        require_features(feature_set(config).names)

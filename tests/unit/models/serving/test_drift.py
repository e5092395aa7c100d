"""Drift measures against slow definitions, an independent library, and data that did or did not change."""

import numpy as np
import pytest

from models.serving.drift import CLIP, DriftMonitor, dissimilar, dissimilarity, lower, psi, scale, shares


@pytest.fixture
def rows(trained):
    inputs = trained[2]["data"].inputs
    return inputs[np.isfinite(inputs).all(axis=1)]


def test_dissimilarity_by_its_definition(bundle, rows):
    reference, sample = bundle.manifest.reference, bundle.reference
    found = dissimilarity(rows[:40], sample, reference)
    scaled = (rows[:40] - np.array(reference.center)) / np.array(reference.spread)
    for row, value in zip(np.clip(scaled, -CLIP, CLIP), found, strict=True):
        nearest = min(np.sqrt(((row - other) ** 2).sum()) for other in sample)
        assert value == pytest.approx(nearest / reference.mean_distance, abs=1e-6)
    apart = [np.sqrt(((a - b) ** 2).sum()) for i, a in enumerate(sample) for b in sample[:i]]
    assert reference.mean_distance == pytest.approx(np.mean(apart), rel=1e-6)


def test_a_row_in_the_sample_is_not_strange_and_an_unheard_of_one_is(bundle, rows):
    reference, sample = bundle.manifest.reference, bundle.reference
    usual = dissimilar(dissimilarity(rows, sample, reference), reference)
    assert 0.001 < usual.mean() < 0.03  # the threshold is the 99th percentile of training rows
    wild = rows[:50] + 6 * np.array(reference.spread)
    assert dissimilar(dissimilarity(wild, sample, reference), reference).all()
    missing = rows[:1].copy()
    missing[0, 3] = np.nan
    assert not dissimilar(dissimilarity(missing, sample, reference), reference).any()


def test_the_flag_is_a_function_of_the_row_alone(bundle, rows):
    monitor = DriftMonitor(bundle.features, bundle.manifest.reference, bundle.reference)
    together = monitor.rows(rows[:200])
    alone = np.concatenate([monitor.rows(rows[i : i + 1]).dissimilar for i in range(200)])
    assert together.dissimilar.tolist() == alone.tolist()
    confidence = np.full(200, 0.5)
    assert lower(confidence, together.dissimilar).tolist() == [0.4 if flag else 0.5 for flag in together.dissimilar]


def test_shares_and_psi_against_numpy_histograms():
    random = np.random.default_rng(1)
    columns = random.normal(size=(500, 3))
    columns[::7, 1] = np.nan
    edges = np.sort(random.normal(size=(3, 9)), axis=1)
    counts = shares(columns, edges)
    for index in range(3):
        known = columns[~np.isnan(columns[:, index]), index]
        expected, _ = np.histogram(known, np.concatenate([[-np.inf], edges[index], [np.inf]]))
        assert counts[index].tolist() == expected.tolist()
    p, q = np.array([[0.2, 0.3, 0.5]]), np.array([[30.0, 30.0, 40.0]])
    by_hand = sum((b - a) * np.log(b / a) for a, b in zip([0.2, 0.3, 0.5], [0.3, 0.3, 0.4], strict=True))
    assert psi(p, q)[0] == pytest.approx(by_hand)


def test_the_monitor_tells_a_changed_feature_from_the_others(bundle, rows):
    random = np.random.default_rng(2)
    monitor = DriftMonitor(bundle.features, bundle.manifest.reference, bundle.reference)
    still = rows[random.integers(0, len(rows), 4_000)]
    score = random.choice(np.array(bundle.manifest.reference.score_edges), 4_000) + random.normal(0, 0.02, 4_000)
    for first in range(0, 4_000, 250):
        monitor.observe(still[first : first + 250], score[first : first + 250])
    calm = monitor.metrics()
    assert calm["rows"] == 4_000
    assert max(value for name, value in calm.items() if name.startswith("psi.") and name != "psi.score") < 0.1
    moved = rows[random.integers(0, len(rows), 4_000)].copy()
    moved[:, 0] += 1.5 * bundle.manifest.reference.spread[0]
    for first in range(0, 4_000, 250):
        monitor.observe(moved[first : first + 250], score[first : first + 250])
    found = monitor.metrics()
    name = bundle.features[0]
    assert found[f"psi.{name}"] > 0.25
    others = [
        value for key, value in found.items() if key.startswith("psi.") and key not in ("psi.score", f"psi.{name}")
    ]
    assert max(others) < 0.1


def test_scaled_values_are_clipped(bundle, rows):
    assert np.abs(scale(rows * 1e9, bundle.manifest.reference)).max() == CLIP

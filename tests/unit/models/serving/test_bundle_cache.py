"""Bundles at hand: loaded once, bounded, checked against the job."""

import shutil

import pytest

from models.serving.bundle import BundleError
from models.serving.bundle_cache import BUNDLES_MAX, BundleCache
from models.serving.feature_set import FeatureSet


def test_a_bundle_is_loaded_once_and_the_least_used_leaves(folder, tmp_path):
    copies = [str(shutil.copytree(folder, tmp_path / f"copy{i}")) for i in range(BUNDLES_MAX + 1)]
    cache = BundleCache()
    first = cache.get(copies[0])
    assert cache.get(copies[0]) is first
    second = cache.get(copies[1])
    for copy in (*copies[2:BUNDLES_MAX], copies[0], copies[BUNDLES_MAX]):
        cache.get(copy)
    assert cache.get(copies[0]) is first  # used lately: kept
    assert cache.get(copies[1]) is not second  # the least used: loaded again
    cache.close()


def test_a_bundle_of_other_features_is_refused(folder, trained):
    features = trained[0].features
    BundleCache(FeatureSet(names=features, hash="hash-of-test")).get(str(folder))
    with pytest.raises(BundleError, match="'hash-of-test', the job computes 'other'"):
        BundleCache(FeatureSet(names=features, hash="other")).get(str(folder))
    with pytest.raises(BundleError, match="no bundle named 'absent'"):
        BundleCache().get("absent")

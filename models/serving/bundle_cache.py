"""A process's LRU cache of bundles: each is loaded and verified once.

After a hot swap, frames of the old and of the new bundle arrive mixed, and a shadow runs alongside; so a few
stay loaded.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from models.serving.bundle import Bundle, bundle_folder, load_bundle
from models.serving.feature_set import FeatureSet

#: In force, before it, and in shadow, with one to spare.
BUNDLES_MAX = 4


class BundleCache:
    """Bundles by reference: a shipped bundle's name or a folder, as a rollout message names it. For one thread.

    ``loaded(bundle, seconds)`` is called after each load.
    """

    def __init__(self, job: FeatureSet | None = None, loaded: Callable[[Bundle, float], None] | None = None) -> None:
        self._job, self._loaded = job, loaded
        self._bundles: OrderedDict[str, Bundle] = OrderedDict()

    def get(self, reference: str) -> Bundle:
        """The bundle, loaded on first use and checked against the job's features; raises ``BundleError``."""
        if reference in self._bundles:
            self._bundles.move_to_end(reference)
            return self._bundles[reference]
        began_s = time.monotonic()
        bundle = load_bundle(bundle_folder(reference))
        if self._job is not None:
            bundle.check_features(self._job)
        self._bundles[reference] = bundle
        if self._loaded is not None:
            self._loaded(bundle, time.monotonic() - began_s)
        if len(self._bundles) > BUNDLES_MAX:
            self._bundles.popitem(last=False)[1].close()
        return bundle

    def close(self) -> None:
        """Ends every bundle's thread."""
        while self._bundles:
            self._bundles.popitem()[1].close()

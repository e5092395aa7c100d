"""The topics that decisions are written to."""

from __future__ import annotations

from models.serving.rollout import SHADOW_TOPIC

#: Signals, a feature row per bar, what could not be used, and the scores of bundles in shadow.
OUTPUT_TOPICS = ("trading-signals", "features", "dead-letter", SHADOW_TOPIC)

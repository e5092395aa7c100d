"""Subscription tiers as data: their order, and the least tier that may see a signal.

>>> minimum_tier(0.59), minimum_tier(0.6)
('free', 'premium')
>>> allows("dynamic", "premium"), allows("free", "premium")
(True, False)
"""

from __future__ import annotations

from models.messages import Tier

#: From least to most.
TIERS: tuple[Tier, ...] = ("free", "premium", "dynamic")

RANK: dict[str, int] = {tier: rank for rank, tier in enumerate(TIERS)}

#: Least confidence at which a signal needs that tier, from the highest down.
MINIMUM_CONFIDENCE: tuple[tuple[float, Tier], ...] = ((0.6, "premium"), (0.0, "free"))

#: What a premium subscriber pays to make one signal dynamic.
DYNAMIC_UPGRADE_PRICE = 4.99

UPGRADE_PROMPT = "Upgrade to Premium for real-time signals"


def minimum_tier(confidence: float) -> Tier:
    """The least tier that may see a signal of this confidence."""
    for least, tier in MINIMUM_CONFIDENCE:
        if confidence >= least:
            return tier
    return "free"


def allows(tier: Tier, needed: Tier) -> bool:
    """True if a subscriber of ``tier`` may see what needs ``needed``."""
    return RANK[tier] >= RANK[needed]

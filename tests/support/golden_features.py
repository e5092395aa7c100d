"""What each feature family of each version gives on fixed bars: ``python -m tests.support.golden_features`` stores it.

A changed formula changes these numbers; then the family's ``VERSION`` must be raised, so that bundles trained on the
old one are refused by name.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from models.messages import News, OptionSummary
from tests.support.series import MINUTE, walk
from udfs.kernel.catalogue import families
from udfs.kernel.compiler import FeatureConfig, Kernel
from udfs.steps.side_inputs import news_row, option_row

FILE = Path(__file__).parents[1] / "fixtures" / "features" / "golden.json"
BARS = 600


def computed() -> dict[str, dict[str, object]]:
    """By family: its version, and its outputs (null: NaN) after 30, 300 and 600 bars."""
    kernel = Kernel(FeatureConfig())
    bars, states, one = walk(BARS, seed=11), kernel.new_states(1), np.zeros(1, np.int64)
    rows = {}
    for i in range(BARS):
        end = int(bars[i, 1])
        if i % 7 == 0:
            story = News(
                symbol="A", news_id=str(i), created_ms=end - MINUTE, updated_ms=end - MINUTE, headline="x",
                sentiment=(i % 11 - 5) / 5,
            )  # fmt: skip
            kernel.news(states, one, np.array([news_row(story)]))
        if i % 5 == 0:
            chain = OptionSummary(
                symbol="A", timestamp_ms=end - MINUTE, call_volume=10.0 + i % 13, put_volume=8.0 + i % 7,
                put_call_ratio=0.5 + i % 3, implied_volatility=0.2 + (i % 17) / 100,
            )  # fmt: skip
            kernel.options(states, one, np.array([option_row(chain)]))
        _, out, _ = kernel.compute(states, one, bars[i : i + 1])
        rows[i + 1] = out[0].copy()
    return {
        name: {
            "version": module.VERSION,
            "outputs": {
                output: [None if np.isnan(v := rows[n][kernel.column_of(output)]) else float(v) for n in (30, 300, 600)]
                for output in kernel.families[name][1]
            },
        }
        for name, module in families().items()
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(computed(), indent=1) + "\n")

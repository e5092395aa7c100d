"""What to train and how, as data: one TOML file a bundle (``models/configs``).

>>> parse(b'name = "x"\\ntimeframe = "1d"\\ncutoff = "2010-01-01"').label.horizon
'1w'
>>> parse(b'name = "x"\\ntimeframe = "1d"\\ncutoff = "2010-01-01"\\nfolds = 0')
Traceback (most recent call last):
ValueError: training config: Expected `int` >= 1 - at `$.folds`
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from models.serving.manifest import LabelSpec, Life

#: The model inputs of the product's first design, in its order.
SIXTEEN = (
    "rsi_14",
    "macd",
    "macd_signal",
    "macd_histogram",
    "bb_position",
    "stoch_k",
    "stoch_d",
    "adx",
    "momentum_1",
    "momentum_3",
    "momentum_5",
    "volume_vs_ma_5",
    "volume_vs_ma_20",
    "volatility_5d",
    "volatility_20d",
    "atr_14",
)

#: Inputs that may be undefined on a sound bar (no volume, constant price): the tree models learn to do without them.
OPTIONAL = ("bb_position", "stoch_k", "stoch_d", "volume_vs_ma_5", "volume_vs_ma_20")

#: Settings of each model until a search finds better ones. Shallow trees: the cost of explaining a signal grows with
#: the square of their depth.
PARAMETERS: dict[str, dict[str, Any]] = {
    "xgboost_swing": {
        "rounds": 50,
        "max_depth": 3,
        "learning_rate": 0.05,
        "min_child_weight": 20.0,
        "reg_lambda": 5.0,
        "subsample": 0.7,
    },
    "lightgbm_day": {
        "rounds": 40,
        "num_leaves": 8,
        "max_depth": 4,
        "learning_rate": 0.05,
        "min_data_in_leaf": 60,
        "lambda_l2": 5.0,
        "bagging_fraction": 0.7,
    },
    "neural_net": {"hidden": [32, 16], "alpha": 0.05, "learning_rate": 0.002, "epochs": 40},
    "random_forest": {"trees": 60, "max_depth": 6, "min_samples_leaf": 40},
}

Share = Annotated[float, Meta(gt=0, lt=1)]


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training run.

    ``cutoff``: the first day (UTC) kept from training; later bars only measure. ``bars`` names a file, or
    ``sample:daily`` for the public-domain bars of bokeh_sampledata.
    ``folds``: walk-forward blocks; ``embargo_bars``: the gap between a label's end and the block it must not touch;
    ``later_share``: the last part of the training rows, which calibrates.
    ``jump_max``: rows whose inputs or path cross a bar that opens further than this share from the close before (an
    unadjusted split) are left out. ``mask_share``: rows in which the trees see an optional input missing.
    ``balance_sides``: buy and sell labels weigh the same in total, so that the direction of a short history is not
    learnt as a rule; thresholds are then the same for both. Without a ``hold_zone`` a model always
    takes a side: for labels that know hardly any hold. ``min_signal_share``: the least share of validation rows
    on which thresholds must act. ``trials``: settings the search may try for each model (0: none).
    """

    name: str
    timeframe: str
    cutoff: str
    style: str = ""
    bars: str = ""
    market: str = "XNYS"
    inputs: tuple[str, ...] = SIXTEEN
    optional: tuple[str, ...] = OPTIONAL
    label: LabelSpec = msgspec.field(default_factory=lambda: LabelSpec(horizon="1w", expiry_reward=0.25, cost_bps=10))
    folds: Annotated[int, Meta(ge=1)] = 5
    embargo_bars: Annotated[int, Meta(ge=0)] = 5
    later_share: Share = 0.2
    jump_max: Annotated[float, Meta(gt=0)] = 0.35
    mask_share: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    balance_sides: bool = False
    hold_zone: bool = True
    min_signal_share: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    trials: Annotated[int, Meta(ge=0)] = 0
    reference_rows: Annotated[int, Meta(ge=16)] = 256
    seed: int = 7
    life: Life = msgspec.field(default_factory=Life)
    weights: dict[str, float] = {}
    parameters: dict[str, dict[str, Any]] = {}

    def cutoff_ms(self) -> int:
        """The cut-off as epoch milliseconds."""
        try:
            day = datetime.fromisoformat(self.cutoff)
        except ValueError:
            raise ValueError(f"training config: cutoff {self.cutoff!r} is no date, write it like 2010-01-01") from None
        return int((day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp() * 1000)

    def settings(self, model: str) -> dict[str, Any]:
        """The model's settings: the defaults, with this config's on top."""
        return PARAMETERS[model] | self.parameters.get(model, {})


def parse(text: bytes) -> TrainConfig:
    """The config in a TOML text; ``ValueError`` naming the field."""
    try:
        config = msgspec.convert(tomllib.loads(text.decode()), TrainConfig)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"training config: {error}") from None
    unknown = set(config.parameters) - set(PARAMETERS)
    if unknown:
        raise ValueError(f"training config: no model named {sorted(unknown)}; there are {sorted(PARAMETERS)}")
    config.cutoff_ms()
    return config

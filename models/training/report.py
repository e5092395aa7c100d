"""The training report: one HTML file with its plots inside, the models against the base-rate baseline.

Every metric stands next to its baseline. Plots are SVG drawn with fixed ids, so that the same run gives the same file.
"""

from __future__ import annotations

import html
import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from models.serving.ensemble import BUY, SELL, combine
from models.serving.manifest import Manifest
from models.training import evaluate
from models.training.data import Dataset

Floats = npt.NDArray[np.float64]

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}.base{color:#888}figure{margin:1.5rem 0}svg{max-width:100%;height:auto}"""


def report(manifest: Manifest, extra: dict[str, Any]) -> str:
    """The page; ``extra`` is what :func:`models.training.train.train` returned alongside the manifest."""
    forward, thresholds = extra["forward"], manifest.thresholds
    held = Dataset.joined([fold[0] for fold in forward["folds"]])
    found = np.concatenate([fold[1] for fold in forward["folds"]])
    decision = combine(found, forward["weights"], thresholds)
    parts = [
        f"<h1>{html.escape(manifest.name)}</h1>",
        f"<p>{_day(manifest.training.start_ms)} to {_day(manifest.training.end_ms)}, "
        f"{manifest.training.rows:,} rows of {', '.join(manifest.training.symbols)}, "
        f"{manifest.timeframe} bars. Label: {_label(manifest)}. "
        f"A model votes buy above P = {thresholds.buy:g} and sell above P = {1 - thresholds.sell:.2g}.</p>"
        if manifest.training
        else "",
        f"<p><b>{verdict(manifest)}</b></p>",
        "<h2>Rows</h2>"
        + _pairs(
            manifest.metrics["rows"] | {f"share labelled {k}": v for k, v in manifest.metrics["base_rates"].items()}
        ),
        "<h2>Forecasts</h2><p>Walk-forward, purged and embargoed; in grey what the training rows' base rates alone "
        "would have scored. Lower log loss and Brier score are better; an AUC of 0.5 is chance.</p>",
        _forecasts(manifest),
        "<h2>Signals</h2><p>Rewards in units of risk (the stop's distance), after costs, weighted by uniqueness; in "
        "grey the same for taking that side on every bar.</p>",
        _signals(manifest),
        _figure("Log loss of each fold: models against base rates", _fold_plot(manifest)),
        _figure(
            "Stated confidence against how often the label agreed (walk-forward)", _reliability_plot(decision, held)
        ),
        _figure("Mean absolute contribution of each input (tree SHAP, log-odds)", _importance_plot(manifest, extra)),
        _figure(
            "Rewards of the labels after costs, summed over walk-forward signals, by uniqueness",
            _equity_plot(decision, held),
        ),
    ]
    body = "\n".join(part for part in parts if part)
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(manifest.name)}</title><style>{STYLE}</style>"
    return f"{head}\n{body}\n"


def verdict(manifest: Manifest) -> str:
    """The latest figures there are, next to their baselines, in plain words."""
    last = manifest.metrics.get("out_of_sample") or manifest.metrics["walk_forward"][-1]
    forecast, signals = last["ensemble"], last["signals"]
    better = forecast["log_loss"] < forecast["log_loss_base_rates"]
    t_value = signals["t_value"]
    return (
        f"On rows it never saw the ensemble's log loss is {forecast['log_loss']:.4f}, the base rates' "
        f"{forecast['log_loss_base_rates']:.4f}: it forecasts {'better' if better else 'no better'} than they do. Its "
        f"signals won {_number(signals['reward'])} of their risk each, {_number(signals['reward_over_every_bar'])} "
        f"more than taking the same side on every bar (t = {t_value:.2f}: "
        f"{'unlikely to be' if t_value > 2 else 'may well be'} chance)."
    )


def _label(manifest: Manifest) -> str:
    spec = manifest.label
    if spec is None:
        return "none"
    expiry = "" if spec.expiry_reward is None else f", or expired with at least {spec.expiry_reward:g} of its risk won"
    return f"would a {spec.horizon} signal have hit its target{expiry}, after {spec.cost_bps:g} bp"


def _blocks(manifest: Manifest) -> list[tuple[str, dict[str, Any]]]:
    rows = [(f"fold {row['fold']} ({row['role']})", row) for row in manifest.metrics["walk_forward"]]
    if "out_of_sample" in manifest.metrics:
        rows.append(("after the cut-off", manifest.metrics["out_of_sample"]))
    return rows


def _forecasts(manifest: Manifest) -> str:
    head = ["", "rows", "log loss", "", "Brier", "", "accuracy", "", "AUC buy", "AUC sell"]
    rows = []
    for title, block in _blocks(manifest):
        for name, values in [("ensemble", block["ensemble"]), *block["models"].items()]:
            if values["rows"]:
                rows.append(
                    [
                        f"{title}: {name}",
                        f"{values['rows']:,}",
                        *(
                            cell
                            for one, base in (
                                ("log_loss", "log_loss_base_rates"),
                                ("brier", "brier_base_rates"),
                                ("accuracy", "accuracy_commonest_class"),
                            )
                            for cell in (f"{values[one]:.4f}", _grey(f"{values[base]:.4f}"))
                        ),
                        _number(values["auc_buy"]),
                        _number(values["auc_sell"]),
                    ]
                )
    return _table(head, rows)


def _signals(manifest: Manifest) -> str:
    head = ["", "signals", "independent", "won", "", "reward", "", "P&amp;L %", "", "changes / 100 bars"]
    rows = []
    for title, block in _blocks(manifest):
        for side in ("buy", "sell"):
            values = block["signals"][side]
            rows.append(
                [
                    f"{title}: {side}",
                    f"{values['signals']:,}",
                    f"{values['independent']:.0f}",
                    *(
                        cell
                        for one, base in (
                            ("won", "won_base_rate"),
                            ("reward", "reward_every_bar"),
                            ("pnl_percent", "pnl_percent_every_bar"),
                        )
                        for cell in (_number(values[one]), _grey(_number(values[base])))
                    ),
                    f"{block['signals']['turnover_changes_a_100_bars']:.1f}",
                ]
            )
    return _table(head, rows)


def _fold_plot(manifest: Manifest) -> Any:
    figure, axes = _axes()
    blocks = _blocks(manifest)
    places = np.arange(len(blocks))
    names = list(blocks[0][1]["models"])
    for offset, name in enumerate(names):
        values = [block["models"][name].get("log_loss", np.nan) for _, block in blocks]
        axes.bar(places + (offset - (len(names) - 1) / 2) * 0.18, values, 0.16, label=name)
    bases = [block["ensemble"]["log_loss_base_rates"] for _, block in blocks]
    axes.plot(places, bases, "k_", markersize=40, label="base rates")
    axes.set_xticks(places, [title.split(" (")[0] for title, _ in blocks])
    low = min(min(block["models"][name].get("log_loss", 9.0) for name in names) for _, block in blocks)
    axes.set_ylim(bottom=max(0.0, min(low, *bases) - 0.05))
    axes.set_ylabel("log loss")
    axes.legend(fontsize=8)
    return figure


def _reliability_plot(decision: Any, held: Dataset) -> Any:
    figure, axes = _axes(width=5)
    for side, name in ((BUY, "buy"), (SELL, "sell")):
        on = decision.action == side
        if on.sum() >= 20:
            points = evaluate.reliability(decision.confidence[on], held.labels[on] == side)
            axes.plot([p["confidence"] for p in points], [p["came_true"] for p in points], "o-", label=name)
            axes.axhline(float((held.labels == side).mean()), ls=":", lw=1, color="grey")
    axes.plot([0, 1], [0, 1], "k--", lw=1, label="perfect")
    axes.set_xlabel("stated confidence")
    axes.set_ylabel("came true (dotted: base rates)")
    axes.legend(fontsize=8)
    return figure


def _importance_plot(manifest: Manifest, extra: dict[str, Any]) -> Any:
    figure, axes = _axes(height=5)
    inputs = np.ascontiguousarray(extra["data"].inputs[-2_000:], dtype=np.float32)
    left = np.zeros(len(manifest.features))
    order = None
    for part in extra["fitted"]:
        values = part.model.contributions(inputs)
        if values is None:
            continue
        mean = np.abs(values).mean(axis=0)
        order = np.argsort(mean) if order is None else order
        axes.barh(np.arange(len(mean)), mean[order], left=left, label=part.spec.name)
        left = left + mean[order]
    axes.set_yticks(np.arange(len(left)), [manifest.features[i] for i in (order if order is not None else [])])
    axes.legend(fontsize=8)
    return figure


def _equity_plot(decision: Any, held: Dataset) -> Any:
    figure, axes = _axes()
    order = np.argsort(held.start_ms, kind="stable")
    days = (held.start_ms[order] / 86_400_000).astype("datetime64[D]")
    taken = np.nan_to_num(evaluate.signal_rewards(decision.action, held) * held.weights)[order]
    axes.plot(days, np.cumsum(taken), label="the signals")
    for column, name in ((1, "buying every bar"), (0, "selling every bar")):
        axes.plot(days, np.cumsum((held.rewards[:, column] * held.weights)[order]), lw=1, label=name)
    axes.axhline(0, color="black", lw=0.5)
    axes.set_ylabel("units of risk")
    axes.legend(fontsize=8)
    return figure


def _axes(width: float = 8, height: float = 3.6) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _figure(caption: str, figure: Any) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": caption, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}<figcaption>{caption}</figcaption></figure>"


def _pairs(values: dict[str, Any]) -> str:
    rows = [
        [html.escape(name.replace("_", " ")), f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"]
        for name, value in values.items()
    ]
    return _table(["", ""], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _grey(text: str) -> str:
    return f'<span class="base">{text}</span>'


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")

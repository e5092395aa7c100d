"""Training is purged, repeatable, honest about noise, and finds what is really there."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.serving.bundle import load_bundle, write_bundle
from models.serving.calibration import apply
from models.serving.ensemble import combine
from models.serving.manifest import Calibration, Thresholds, encode_manifest
from models.training import evaluate
from models.training.calibrate import fit_calibration, log_loss
from models.training.config import parse
from models.training.folds import split_later, walk_forward
from models.training.report import report
from models.training.train import main, train
from models.training.uniqueness import uniqueness

DAY_MS = 86_400_000


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), folds=st.integers(1, 6), embargo=st.integers(0, 5))
def test_no_taught_row_overlaps_a_tested_one(seed, folds, embargo):
    random = np.random.default_rng(seed)
    start = np.sort(random.integers(0, 500, 300))
    exit_ = start + random.integers(1, 30, 300)
    tested = np.zeros(300, dtype=int)
    for teach, test in walk_forward(start, exit_, folds, embargo):
        assert test.any()
        if teach.any():
            assert exit_[teach].max() + embargo < start[test].min()
        tested += test
    assert tested.max() == 1
    assert tested[start >= np.quantile(start, 1 / (folds + 1)) + 1].all()
    earlier, later = split_later(start, exit_, 0.3, embargo)
    assert not earlier.any() or exit_[earlier].max() + embargo < start[later].min()


def test_same_data_and_seed_give_the_same_bytes(trained, config, market):
    manifest, files, _ = train(config, *market, "hash-of-test", step=lambda _: None)
    assert encode_manifest(manifest) == encode_manifest(trained[0])
    assert files == trained[1]
    bars, features = (table.sample(frac=1.0, random_state=1) for table in market)
    features = pd.DataFrame({name: features[name].to_numpy(copy=True) for name in reversed(features.columns)})
    _, shuffled, _ = train(config, bars, features, "hash-of-test", step=lambda _: None)
    assert shuffled == files
    other, _, _ = train(msgspec.structs.replace(config, seed=8), *market, "hash-of-test", step=lambda _: None)
    assert other.files["neural_net.onnx"] != manifest.files["neural_net.onnx"]


def test_bars_after_the_cutoff_only_measure(trained, config, market):
    """Without any bar after the cut-off the models are the same, byte for byte."""
    bars, features = market
    before = bars["end_ms"] <= config.cutoff_ms()
    manifest, files, _ = train(config, bars[before], features[before], "hash-of-test", step=lambda _: None)
    assert files == trained[1]
    assert manifest.thresholds == trained[0].thresholds
    assert manifest.out_of_sample is None
    assert trained[0].training.end_ms <= config.cutoff_ms() <= trained[0].out_of_sample.start_ms


def test_it_finds_what_is_there_and_says_so_beside_the_baseline(trained):
    """The stand-in feature peeks at the future, so the figures out of sample must beat the base rates."""
    block = trained[0].metrics["out_of_sample"]
    assert block["ensemble"]["log_loss"] < block["ensemble"]["log_loss_base_rates"] - 0.02
    assert block["ensemble"]["auc_buy"] > 0.65
    assert block["signals"]["reward_over_every_bar"] > 0.1
    assert block["signals"]["t_value"] > 2


def test_noise_earns_nothing(config, market):
    """With the peeking column shuffled, nothing beats its baseline by much."""
    bars, features = market
    blind = features.copy()
    blind["momentum_1"] = np.random.default_rng(0).permutation(blind["momentum_1"].to_numpy())
    manifest, _, _ = train(config, bars, blind, "hash-of-test", step=lambda _: None)
    block = manifest.metrics["out_of_sample"]["ensemble"]
    assert abs(block["auc_buy"] - 0.5) < 0.1
    assert block["log_loss"] > block["log_loss_base_rates"] - 0.01


def test_calibration_recovers_a_known_distortion():
    """Probabilities sharpened twofold and shifted: the fit undoes it, on other rows than it saw."""
    random = np.random.default_rng(2)
    honest = apply(random.dirichlet([2, 3, 2], 8_000), Calibration(scale=0.6))
    labels = np.array([random.choice(3, p=row / row.sum()) for row in honest], dtype=np.int8)
    distorted = apply(honest, Calibration(scale=2.0, bias=(0.5, -0.2, -0.3)))
    weights = np.ones(8_000)
    fitted = fit_calibration(distorted[:5_000], labels[:5_000], weights[:5_000])
    assert fitted.scale == pytest.approx(0.5, abs=0.06)
    repaired = apply(distorted[5_000:], fitted)
    assert np.abs(repaired - honest[5_000:]).mean() < 0.02
    assert log_loss(repaired, labels[5_000:], weights[5_000:]) < log_loss(
        distorted[5_000:], labels[5_000:], weights[5_000:]
    )
    points = evaluate.reliability(repaired[:, 2], labels[5_000:] == 2)
    assert all(abs(point["confidence"] - point["came_true"]) < 0.08 for point in points)


def test_uniqueness_by_counting_every_bar():
    random = np.random.default_rng(3)
    first = np.sort(random.choice(60, 40, replace=False))
    last = np.minimum(first + random.integers(1, 9, 40), 79)
    alive = [sum(a < bar <= b for a, b in zip(first, last, strict=True)) for bar in range(80)]
    expected = [np.mean([1 / alive[bar] for bar in range(a + 1, b + 1)]) for a, b in zip(first, last, strict=True)]
    np.testing.assert_allclose(uniqueness(first, last, 80), expected, rtol=1e-12)


def test_auc_against_scikit_learn():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(4)
    score, positive = random.integers(0, 20, 500) / 20, random.random(500) < 0.3
    assert evaluate.auc(score, positive) == pytest.approx(roc_auc_score(positive, score))


def test_thresholds_maximise_the_excess_on_their_rows(trained):
    """The chosen pair is no worse than any other allowed pair, recomputed plainly."""
    _, _, extra = trained
    held, found, _ = extra["forward"]["folds"][0]
    weights = extra["forward"]["weights"]
    chosen = evaluate.choose_thresholds(found, weights, held, 0.05)

    def value(pair):
        actions = combine(found, weights, pair).action
        share = [(actions == side).mean() for side in (0, 2)]
        if sum(share) < 0.05 or min(share) < 0.0125:
            return -np.inf
        excess = evaluate.excess_rewards(actions, held)
        taken = ~np.isnan(excess)
        mean = np.average(excess[taken], weights=held.weights[taken])
        spread = np.sqrt(np.average((excess[taken] - mean) ** 2, weights=held.weights[taken]))
        return mean / spread * np.sqrt(held.weights[taken].sum())

    others = [Thresholds(buy=buy, sell=sell) for buy in (0.34, 0.4, 0.5) for sell in (0.5, 0.6, 0.66)]
    assert value(chosen) >= max(map(value, others)) - 1e-9
    assert evaluate.choose_thresholds(found, weights, held, 0.999) == Thresholds()


def test_search_is_bounded_and_resumes_to_the_same_settings(config, market, tmp_path):
    from models.training.data import prepare
    from models.training.search import search

    config = msgspec.structs.replace(config, trials=2, folds=2)
    data = prepare(config, *market)
    steps: list[str] = []
    whole = search(config, data, DAY_MS, tmp_path / "a.journal", steps.append)
    assert len(steps) == 8
    search(msgspec.structs.replace(config, trials=1), data, DAY_MS, tmp_path / "b.journal", lambda _: None)
    steps.clear()
    resumed = search(config, data, DAY_MS, tmp_path / "b.journal", steps.append)
    assert len(steps) == 4
    assert resumed == whole
    steps.clear()
    assert search(config, data, DAY_MS, tmp_path / "a.journal", steps.append) == whole
    assert steps == []


def test_report_says_every_figure_beside_its_baseline(trained):
    manifest, _, extra = trained
    page = report(manifest, extra)
    assert page == report(manifest, extra)
    assert page.count("<svg") == 4
    block = manifest.metrics["out_of_sample"]
    for figure in (
        block["ensemble"]["log_loss"],
        block["ensemble"]["log_loss_base_rates"],
        block["models"]["neural_net"]["brier"],
        block["models"]["neural_net"]["brier_base_rates"],
    ):
        assert f"{figure:.4f}" in page
    for figure in (block["signals"]["buy"]["reward"], block["signals"]["buy"]["reward_every_bar"]):
        assert f"{figure:.3f}" in page


def test_the_command_writes_a_bundle_that_loads(market, tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet

    bars, features = market
    bars.to_csv(tmp_path / "bars.csv", index=False)
    table = pa.Table.from_pandas(features).replace_schema_metadata({b"feature_set_hash": b"abc"})
    pyarrow.parquet.write_table(table, tmp_path / "features.parquet")
    config = tmp_path / "quick.toml"
    config.write_text(
        'name = "quick"\ntimeframe = "1d"\ncutoff = "2006-01-01"\nmarket = "24/7"\nfolds = 1\nreference_rows = 64\n'
        "[parameters.xgboost_swing]\nrounds = 3\n[parameters.lightgbm_day]\nrounds = 3\n"
        "[parameters.neural_net]\nepochs = 2\n[parameters.random_forest]\ntrees = 4\n"
    )
    files = ["--bars", str(tmp_path / "bars.csv"), "--features", str(tmp_path / "features.parquet")]
    assert main([str(config), *files, "--cutoff", "2007-01-01", "--out", str(tmp_path / "out")]) == 0
    bundle = load_bundle(tmp_path / "out")
    assert bundle.feature_set_hash == "abc"
    assert bundle.manifest.training.end_ms <= pd.Timestamp("2007-01-01", tz="UTC").value // 10**6
    assert main([str(config), *files, "--cutoff", "1999-01-01", "--out", str(tmp_path / "none")]) == 2
    assert "0 usable rows before the cut-off 1999-01-01" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main([str(config), "--bars", "absent.csv", *files[2:], "--out", str(tmp_path / "none")]) == 2
    assert "no file absent.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"name = 1", "Expected `str`, got `int` - at `\\$.name`"),
        (b"name = ", "Invalid value"),
        (b'name = "x"\ntimeframe = "1d"\ncutoff = "soon"', "cutoff 'soon' is no date"),
        (b'name = "x"\ntimeframe = "1d"\ncutoff = "2010-01-01"\ntypo = 1', "unknown field `typo`"),
        (
            b'name = "x"\ntimeframe = "1d"\ncutoff = "2010-01-01"\n[parameters.catboost]',
            r"no model named \['catboost'\]",
        ),
    ],
)
def test_a_bad_config_names_its_field(text, match):
    with pytest.raises(ValueError, match=match):
        parse(text)


def test_missing_columns_are_named(config, market):
    bars, features = market
    with pytest.raises(ValueError, match="features lack the columns rsi_14"):
        train(config, bars, features.drop(columns="rsi_14"), "", step=lambda _: None)
    with pytest.raises(ValueError, match="bars lack the columns high, low"):
        train(config, bars.drop(columns=["high", "low"]), features, "", step=lambda _: None)


def test_a_half_written_bundle_is_refused(trained, tmp_path):
    manifest, files, _ = trained
    write_bundle(tmp_path / "b", manifest, files)
    (tmp_path / "b" / "manifest.json").unlink()
    from models.serving.bundle import BundleError

    with pytest.raises(BundleError, match=r"holds .* but no"):
        load_bundle(tmp_path / "b")


def test_the_shipped_configs_parse_and_match_their_bundles():
    from importlib.resources import files

    from models.serving.bundle import bundle_names, bundle_path

    for name in bundle_names():
        config = parse((files("models") / "configs" / f"{name}.toml").read_bytes())
        manifest = json.loads((bundle_path(name) / "manifest.json").read_bytes())
        assert config.name == name == manifest["name"]
        assert manifest["training"]["end_ms"] <= config.cutoff_ms()
        assert sum(file.stat().st_size for file in bundle_path(name).iterdir()) < 2_000_000


def test_the_readme_quotes_the_figures_of_the_manifests():
    from models.serving.bundle import bundle_names, bundle_path

    lines = (Path(__file__).parents[4] / "models" / "README.md").read_text().splitlines()
    for name in bundle_names():
        manifest = json.loads((bundle_path(name) / "manifest.json").read_bytes())
        line = next(line for line in lines if line.startswith(f"| {name} |"))
        block = manifest["metrics"]["out_of_sample"]
        signals = block["signals"]
        assert f"log loss {block['ensemble']['log_loss']:.4f}" in line
        assert f"base rates {block['ensemble']['log_loss_base_rates']:.4f}" in line
        assert f"won {signals['reward']:.3f} R, {signals['reward_over_every_bar']:+.3f} R" in line
        assert f"(t {signals['t_value']:.1f})" in line
        assert f"{manifest['training']['rows']:,}" in line

"""``signals bundle`` without a broker: list, verify, reweigh, and what promote refuses before it calls anybody."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from models.messages import Outcome, Signal, encode
from models.serving.bundle import bundle_names, bundle_path, load_bundle, needed_by
from models.serving.feature_set import why_unfit

NOBODY = ["--kafka", "127.0.0.1:1"]


def bundle(*arguments):
    return CliRunner().invoke(app, ["bundle", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_shipped_bundles_fit_the_features_of_this_release():
    from udfs.kernel.catalogue import FeatureConfig, feature_set

    job = feature_set(FeatureConfig())
    for name in bundle_names():
        manifest = load_bundle(bundle_path(name)).manifest
        needed = needed_by(manifest)
        assert needed, f"train again: signals train {name}"
        assert why_unfit(manifest.features, needed, manifest.feature_set_hash, job) == ""


def test_list_shows_sound_bundles_and_names_the_broken(folder):
    said = bundle("list", "--folder", folder.parent)
    assert said.exit_code == 0
    for name in (*bundle_names(), "quick"):
        assert f"{name}@" in said.output
    (folder / "random_forest.onnx").unlink()
    assert "lacks random_forest.onnx" in bundle("list", "--folder", folder.parent).output


def test_verify(folder):
    said = bundle("verify", folder)
    assert said.exit_code == 0
    assert "verified. 5 files" in said.output
    (folder / "manifest.json").write_bytes(b"{")
    assert "truncated" in bundle("verify", folder).output
    assert bundle("verify", "absent").exit_code == 2


def test_promote_refuses_what_jobs_do_not_compute(folder, tmp_path):
    said = bundle("promote", folder, *NOBODY)
    assert said.exit_code == 2
    assert "was trained on feature set 'hash-of-test', the job computes" in said.output
    few = tmp_path / "few.json"
    few.write_text('{"families": ["rsi"]}')
    said = bundle("promote", "daily-swing", *NOBODY, "--feature-config", few)
    assert said.exit_code == 2
    assert "needs features the job does not compute: macd" in said.output
    few.write_text('{"famlies": []}')
    assert "--feature-config:" in bundle("promote", "daily-swing", *NOBODY, "--feature-config", few).output


@pytest.mark.parametrize("won", [True, False])
def test_reweigh_writes_a_bundle_with_other_weights(folder, tmp_path, won):
    common = {
        "symbol": "AAPL",
        "entry_price": 100.0,
        "target_price": 106.0,
        "stop_loss": 97.0,
        "created_ms": 1,
        "bundle": "quick",
    }
    votes = {"xgboost_swing": ("buy", 0.6), "neural_net": ("hold", 0.5)}
    signals = [
        Signal(
            signal_id=f"s{i}-0", timeframe="1d", action="buy", confidence=0.6, time_horizon="1d", emitted_ms=1,
            expires_ms=2, reasoning="", model_votes=votes, **common,
        )
        for i in range(60)
    ]  # fmt: skip
    outcomes = [
        Outcome(
            signal_id=f"s{i}-0", status="expired", current_price=101.0, pnl_percent=1.0 if won else -1.0, updated_ms=2,
            **common,
        )
        for i in range(60)
    ]  # fmt: skip
    for name, messages in (("s", signals), ("o", outcomes)):
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(map(encode, messages)))
    files = ["--signals", tmp_path / "s.jsonl", "--outcomes", tmp_path / "o.jsonl"]
    said = bundle("reweigh", folder, *files, "--out", tmp_path / "learned")
    assert said.exit_code == 0, said.output
    assert "from 60 finished signals" in said.output
    learned = load_bundle(tmp_path / "learned")
    before = load_bundle(folder)
    assert (learned.weights[0] > before.weights[0]) == won
    assert (learned.weights[2] < before.weights[2]) == won
    for loaded in (learned, before):
        loaded.close()

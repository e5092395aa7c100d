"""A bundle scores as its models do, whatever the batch; and one that does not fit is refused by name."""

import ast
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.serving.bundle import BundleError, load_bundle, write_bundle
from models.serving.feature_set import FeatureSet
from models.serving.manifest import FORMAT, ModelSpec, decode_manifest, encode_manifest

ROOT = Path(__file__).parents[4]


@pytest.fixture
def rows(trained):
    inputs = trained[2]["data"].inputs
    return inputs[np.isfinite(inputs).all(axis=1)][:256]


def test_scores_are_probabilities_in_class_order(bundle, rows, trained):
    scores = bundle.score(rows)
    assert scores.models == ("xgboost_swing", "lightgbm_day", "neural_net", "random_forest")
    assert scores.probabilities.shape == (256, 4, 3)
    np.testing.assert_allclose(scores.probabilities.sum(axis=2), 1, atol=1e-9)
    assert scores.skipped == {}
    # the momentum column peeks at the future: buy must rise with it and sell fall
    order = np.argsort(rows[:, bundle.features.index("momentum_1")])
    mean = scores.probabilities.mean(axis=1)
    assert mean[order[-50:], 2].mean() > mean[order[:50], 2].mean() + 0.1
    assert mean[order[-50:], 0].mean() < mean[order[:50], 0].mean() - 0.1


def test_models_agree_with_their_own_libraries(folder, bundle, rows):
    """Each backend against the library's plain interface; calibration undone by its inverse."""
    import lightgbm
    import xgboost

    booster = xgboost.Booster(model_file=folder / "xgboost_swing.json")
    table = xgboost.DMatrix(rows.astype("f4"), feature_names=list(bundle.features))
    plain = {
        "xgboost_swing": booster.predict(table),
        "lightgbm_day": lightgbm.Booster(model_file=folder / "lightgbm_day.txt").predict(rows.astype("f4")),
    }
    scores = bundle.score(rows)
    for spec in bundle.manifest.models[:2]:
        logits = np.log(plain[spec.name]) * spec.calibration.scale + np.array(spec.calibration.bias)
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        found = scores.probabilities[:, scores.models.index(spec.name)]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_onnx_files_answer_as_the_estimators_they_came_from(market, config, trained, rows):
    """The forest and the net, taught again by plain scikit-learn on the same rows, give the same probabilities."""
    import onnxruntime
    from sklearn.ensemble import RandomForestClassifier

    from models.training.folds import split_later

    data, files = trained[2]["data"], trained[1]
    earlier, _ = split_later(data.start_ms, data.exit_ms, config.later_share, config.embargo_bars * 86_400_000)
    teach = data.take(earlier)
    known = np.isfinite(teach.inputs).all(axis=1)
    forest = RandomForestClassifier(
        8, max_depth=4, min_samples_leaf=40, max_features="sqrt", random_state=config.seed
    ).fit(teach.inputs[known].astype("f4"), teach.labels[known], sample_weight=teach.weights[known])
    session = onnxruntime.InferenceSession(files["random_forest.onnx"])
    found = session.run(None, {session.get_inputs()[0].name: rows.astype("f4")})[-1]
    np.testing.assert_allclose(found, forest.predict_proba(rows.astype("f4")), atol=1e-5)


def test_one_row_and_a_batch_say_the_same(bundle, rows):
    together, decided = bundle.decide(rows)
    for index in range(0, 256, 16):
        alone, decision = bundle.decide(rows[index : index + 1])
        assert np.abs(alone.probabilities[0] - together.probabilities[index]).max() <= 1e-6
        assert decision.action[0] == decided.action[index]


def test_missing_inputs_silence_only_models_that_do_not_tolerate_them(bundle, rows):
    spoiled = rows[:3].copy()
    spoiled[1, bundle.features.index("bb_position")] = np.nan
    spoiled[2, bundle.features.index("rsi_14")] = np.nan
    whole, scores = bundle.score(rows[:3]), bundle.score(spoiled)
    np.testing.assert_allclose(scores.probabilities[0], whole.probabilities[0], atol=1e-6)
    assert np.isnan(scores.probabilities[1, :, 0]).tolist() == [False, False, True, True]
    assert scores.reasons(0) == {}
    assert scores.reasons(1) == dict.fromkeys(("neural_net", "random_forest"), "abstained: bb_position missing")
    assert np.isnan(scores.probabilities[2]).all()
    assert set(scores.reasons(2)) == set(scores.models)
    _, decision = bundle.decide(spoiled)
    assert decision.action[2] == -1
    assert decision.action[1] >= 0


class Broken:
    features = ()

    def __init__(self, behave):
        self.behave = behave

    def predict(self, inputs):
        return self.behave(inputs)

    def contributions(self, inputs):
        raise RuntimeError("no")


class Stuck:
    """A model whose call returns when the test lets it; ``threads`` are those that called it."""

    features = ()

    def __init__(self):
        self.released, self.threads = threading.Event(), []

    def predict(self, inputs):
        self.threads.append(threading.current_thread())
        self.released.wait()
        return np.full((len(inputs), 3), 1 / 3)

    def contributions(self, inputs):
        raise RuntimeError("no")

    def release(self):
        """Let the calls return, and wait until their threads have ended."""
        self.released.set()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def stuck():
    model = Stuck()
    yield model
    model.release()


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (lambda inputs: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda inputs: np.full((len(inputs), 3), np.nan), "returned NaN"),
        (lambda inputs: np.zeros((1, 2)), "returned shape (1, 2) instead of (5, 3)"),
        (None, "timed out after 100 ms"),
    ],
)
def test_a_failing_model_is_skipped_counted_and_named(bundle, rows, stuck, behave, reason):
    whole = bundle.score(rows[:5]).probabilities
    bundle.timeout_s = 0.1
    bundle._models[1] = Broken(behave) if behave else stuck
    scores = bundle.score(rows[:5])
    assert scores.skipped == {"lightgbm_day": reason}
    assert scores.reasons(2) == {"lightgbm_day": reason}
    assert bundle.failures == {"lightgbm_day": 1}
    assert np.isnan(scores.probabilities[:, 1]).all()
    np.testing.assert_allclose(np.delete(scores.probabilities, 1, 1), np.delete(whole, 1, 1), atol=1e-9)
    assert np.isfinite(bundle.explain(rows[:5])).all()


def test_a_stuck_model_stays_out_until_its_call_returns(bundle, rows, stuck):
    bundle.timeout_s = 0.1
    bundle._models[0] = stuck
    assert "timed out after" in bundle.score(rows[:5]).skipped["xgboost_swing"]
    bundle.timeout_s = 3_600  # the model that is out is not called again, so nothing waits for it
    assert "has not returned" in bundle.score(rows[:5]).skipped["xgboost_swing"]
    assert len(stuck.threads) == 1
    stuck.release()
    bundle._models[0] = Broken(lambda inputs: np.full((len(inputs), 3), 1 / 3))
    assert bundle.score(rows[:5]).skipped == {}


def test_all_models_failing_leaves_no_action(bundle, rows):
    bundle._models[:] = [Broken(lambda inputs: 1 / 0)] * 4
    scores, decision = bundle.decide(rows[:3])
    assert decision.action.tolist() == [-1, -1, -1]
    assert len(scores.reasons(0)) == 4


def test_explanation_adds_up_to_the_margin(folder, bundle, rows):
    """SHAP values and their bias sum to each booster's own ln P(buy) - ln P(sell)."""
    explained = bundle.explain(rows[:8])
    assert explained.shape == (8, len(bundle.features))
    strongest = np.abs(explained).mean(axis=0).argmax()
    assert bundle.features[strongest] == "momentum_1"
    for spec, model in zip(bundle.manifest.models[:2], bundle._models[:2], strict=True):
        probabilities = model.predict(rows.astype("f4"))
        margin = np.log(probabilities[:, 2] / probabilities[:, 0])
        parts = model.contributions(rows.astype("f4")).sum(axis=1)
        offset = margin - parts
        np.testing.assert_allclose(offset, offset[0], atol=1e-4, err_msg=spec.name)


def test_nothing_is_scored_for_no_rows(bundle):
    scores, decision = bundle.decide(np.empty((0, len(bundle.features))))
    assert scores.probabilities.shape == (0, 4, 3)
    assert decision.action.shape == (0,)


def test_a_wrong_shape_names_both(bundle):
    with pytest.raises(ValueError, match=r"\(rows, 16\), got \(2, 3\)"):
        bundle.score(np.zeros((2, 3)))


def test_check_features_names_both_sides(bundle):
    bundle.check_features(FeatureSet(names=("extra", *bundle.features), hash="hash-of-test"))
    with pytest.raises(BundleError, match=r"does not compute: rsi_14 \(the job has macd,"):
        bundle.check_features(FeatureSet(names=bundle.features[1:], hash="hash-of-test"))
    with pytest.raises(BundleError, match="'hash-of-test', the job computes 'other'"):
        bundle.check_features(FeatureSet(names=bundle.features, hash="other"))


# -- refusals -------------------------------------------------------------------------------------------------------


def refused(folder, match, **how):
    with pytest.raises(BundleError, match=match):
        load_bundle(folder, **how)


def test_a_tampered_file(folder):
    file = folder / "xgboost_swing.json"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    refused(folder, r"xgboost_swing.json .* has sha256 \w{12}, manifest.json says \w{12}")


@pytest.mark.parametrize("name", ["lightgbm_day.txt", "neural_net.onnx", "reference.f32"])
def test_a_truncated_file(folder, name):
    file = folder / name
    file.write_bytes(file.read_bytes()[:-10])
    refused(folder, f"{name} .* changed or is truncated")


def test_a_truncated_manifest(folder):
    file = folder / "manifest.json"
    file.write_bytes(file.read_bytes()[:200])
    refused(folder, "manifest.json is not JSON .* truncated")


def test_a_missing_file(folder):
    (folder / "neural_net.onnx").unlink()
    refused(folder, "lacks neural_net.onnx")


def test_an_empty_folder(tmp_path):
    refused(tmp_path, "holds nothing but no manifest.json")
    refused(tmp_path / "absent", "no bundle at .*absent")


def test_a_manifest_from_a_newer_release(folder):
    file = folder / "manifest.json"
    text = json.loads(file.read_text()) | {"format": FORMAT + 1, "unheard_of": 1}
    file.write_text(json.dumps(text))
    refused(folder, f"format {FORMAT + 1}, this release reads {FORMAT}")


def test_training_data_from_the_future(folder):
    refused(folder, "from the future: its training data ends at", now_ms=1_000_000_000_000)


def test_an_edited_manifest(folder):
    file = folder / "manifest.json"
    text = json.loads(file.read_text())
    text["thresholds"]["buy"] = 0.01
    file.write_text(json.dumps(text))
    refused(folder, "was edited: its digest is")


def test_another_feature_order(edit, trained):
    features = trained[0].features
    folder = edit(features=(features[1], features[0], *features[2:]))
    refused(folder, r"its inputs are \['rsi_14', 'macd'.*lists \['macd', 'rsi_14'.*differ from position 0")


def test_another_class_order(edit):
    refused(edit(classes=("buy", "hold", "sell")), r"orders its classes \['buy', 'hold', 'sell'\]")


@pytest.mark.parametrize("version", ["2.1.4", "3.99.0", "4.0.0"])
def test_another_library_version(edit, trained, version):
    versions = trained[0].library_versions | {"xgboost": version}
    refused(edit(library_versions=versions), f"written for xgboost {version}, installed is 3")


def test_an_unknown_backend(edit, trained):
    first, *others = trained[0].models
    refused(
        edit(models=(msgspec.structs.replace(first, backend="pickle"), *others)),
        "backend 'pickle' does not exist .*lightgbm, onnx, xgboost",
    )


def test_a_file_outside_the_folder(edit, trained):
    refused(edit(files=trained[0].files | {"../x": "0"}), "files must lie in the bundle's own folder")


@pytest.mark.parametrize("name", ["xgboost_swing.json", "lightgbm_day.txt", "neural_net.onnx", "reference.f32"])
def test_rubbish_with_a_right_hash(folder, trained, name):
    files = trained[0].files | {name: hashlib.sha256(b"rubbish").hexdigest()}
    write_bundle(folder, msgspec.structs.replace(trained[0], files=files), {name: b"rubbish"})
    refused(folder, "not a")


def test_manifest_round_trip(trained):
    sealed = encode_manifest(trained[0])
    assert encode_manifest(decode_manifest(sealed)) == sealed


# -- safety and packaging -------------------------------------------------------------------------------------------

SERVING = sorted(
    str(path.relative_to(ROOT / "models").with_suffix(""))
    for room in ("serving", "backends")
    for path in (ROOT / "models" / room).glob("*.py")
)


@pytest.mark.parametrize("module", SERVING)
def test_serving_modules_import_no_training_library_and_no_pickle(module):
    tree = ast.parse((ROOT / "models" / f"{module}.py").read_text())
    banned = {"pickle", "joblib", "sklearn", "skl2onnx", "optuna", "matplotlib", "talib", "scipy", "marshal", "shelve"}
    if module != "backends/onnx":
        banned.add("onnx")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not banned & {name.name.split(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in banned


def test_loading_and_scoring_runs_no_pickle_no_process_and_no_code_of_the_bundle(folder):
    """Python's audit events while a bundle is loaded and scored, after a first time that imports the libraries."""
    script = """
import sys
import numpy as np
import os
from models.serving.bundle import load_bundle
def use():
    bundle = load_bundle(sys.argv[1])
    bundle.score(np.zeros((4, len(bundle.features))))
    bundle.explain(np.zeros((4, len(bundle.features))))
use()
seen = set()
sys.addaudithook(lambda event, arguments: seen.add(event))
use()
assert not {"joblib", "sklearn"} & set(sys.modules), "training libraries were imported"
print(*sorted(seen))
sys.stdout.flush()
os._exit(0)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(folder)], capture_output=True, text=True, cwd=ROOT
    )
    seen = set(ran.stdout.split())
    assert "open" in seen, ran.stderr
    banned = {
        "pickle.find_class",
        "exec",
        "compile",
        "marshal.loads",
        "subprocess.Popen",
        "os.system",
        "socket.connect",
    }
    assert not seen & banned


def test_shipped_bundles_are_found_in_a_zip_on_the_path(folder, tmp_path):
    package = tmp_path / "package.zip"
    with zipfile.ZipFile(package, "w") as archive:
        for file in (ROOT / "models").rglob("*.py"):
            archive.write(file, file.relative_to(ROOT))
        for file in folder.iterdir():
            archive.write(file, f"models/bundles/quick/{file.name}")
    script = "from models.serving.bundle import *; print(bundle_names(), load_bundle(bundle_path('quick')).id)"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {str(package)!r}); {script}"],
        capture_output=True,
        text=True,
        cwd=elsewhere,
    )
    assert ran.stdout.startswith("('quick',) quick@"), ran.stderr
    shutil.rmtree(elsewhere)


def test_adding_a_kind_of_model_is_adding_a_file(folder, trained, tmp_path, monkeypatch):
    """A backend dropped into the folder is found by name, versioned and scored; nothing else is touched."""
    from models import backends

    (tmp_path / "constant.py").write_text(
        "import json\n"
        "import numpy as np\n"
        "PACKAGE = 'numpy'\n"
        "def version():\n"
        "    return np.__version__\n"
        "class Constant:\n"
        "    features = ()\n"
        "    def __init__(self, data):\n"
        "        self.row = json.loads(data)\n"
        "    def predict(self, inputs):\n"
        "        return np.tile(self.row, (len(inputs), 1))\n"
        "    def contributions(self, inputs):\n"
        "        return None\n"
        "open_model = Constant\n"
    )
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    manifest = trained[0]
    data = b"[0.1, 0.2, 0.7]"
    added = ModelSpec(name="constant", backend="constant", file="constant.json", weight=0.1)
    changed = msgspec.structs.replace(
        manifest,
        models=(*manifest.models, added),
        files=manifest.files | {"constant.json": hashlib.sha256(data).hexdigest()},
        library_versions=manifest.library_versions | {"numpy": np.__version__},
    )
    write_bundle(folder, changed, {"constant.json": data})
    loaded = load_bundle(folder)
    scores = loaded.score(np.zeros((3, 16)))
    np.testing.assert_allclose(scores.probabilities[:, -1], [[0.1, 0.2, 0.7]] * 3, atol=1e-9)
    loaded.close()

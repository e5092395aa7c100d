"""What is shipped: licences, bill of materials, signed bundles."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from typer.testing import CliRunner

from cli.main import app
from models.serving.bundle import BundleError, bundle_path, load_bundle
from models.serving.signing import new_key, require_signature, sign

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
import licences  # noqa: E402 - the scripts are no package
import lock  # noqa: E402
import sbom  # noqa: E402


def test_every_licence_is_allowed_and_the_page_is_current() -> None:
    assert licences.problems() == []
    assert len(licences.shipped()) > 100


@pytest.mark.parametrize(
    "licence",
    ["GPL-3.0", "MIT AND AGPL-3.0", "LGPLv3", "UNKNOWN", "", "SSPL-1.0", "Apache-2.0 OR Commercial", "BUSL-1.1"],
)
def test_other_licences_are_refused(licence: str) -> None:
    assert not licences.allowed(licence)


@pytest.mark.parametrize(
    "licence", ["MIT License", "Apache-2.0 OR BSD-3-Clause", "MPL-2.0 AND (Apache-2.0 OR MIT)", "ISC License (ISCL)"]
)
def test_permissive_licences_pass(licence: str) -> None:
    assert licences.allowed(licence)


def test_the_check_of_the_lock_sees_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "requirements.lock").read_text()
    stale = tmp_path / "requirements.lock"
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    monkeypatch.setattr(lock, "LOCKS", {stale: lock._RUN})
    assert list(lock.problems()) == ["requirements.lock is missing: run `make lock`"]
    stale.write_text(text.replace("\nmsgspec==", "\nmsgspex==").replace("\nredis==5.3.1", "\nredis==5.3.0"))
    found = "\n".join(lock.problems())
    assert "lacks msgspec (pyproject.toml needs it)" in found
    assert "has redis 5.3.0, constraints.txt 5.3.1" in found
    stale.write_text(text.replace("--hash=sha256:", "--hash=md5:"))
    assert "names no hash of msgspec" in "\n".join(lock.problems())


def test_the_bill_of_materials_is_valid_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    count = sbom.write(file)
    bill = json.loads(file.read_text())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read_text()) is None
    named = {component["name"].lower().replace("_", "-").replace(".", "-") for component in bill["components"]}
    assert set(lock.pinned(ROOT / "requirements.lock")) <= named
    assert "flink-sql-connector-kafka" in named
    assert count == len(bill["components"])


# Signatures


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_path("daily-swing"), folder)
    return folder


def test_with_a_key_only_a_signed_bundle_is_loaded(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = new_key()
    (tmp_path / "key.pub").write_bytes(public)
    load_bundle(bundle).close()
    monkeypatch.setenv("SIGNALS_BUNDLE_PUBLIC_KEY", str(tmp_path / "key.pub"))
    with pytest.raises(BundleError, match="is not signed"):
        load_bundle(bundle)
    with pytest.raises(BundleError, match="is not signed"):
        load_bundle(bundle_path("daily-swing"))
    sign(bundle, private)
    load_bundle(bundle).close()
    monkeypatch.setenv("SIGNALS_BUNDLE_PUBLIC_KEY", str(tmp_path / "absent"))
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(bundle)


def test_another_key_and_a_changed_manifest_are_refused(bundle: Path) -> None:
    private, public = new_key()
    sign(bundle, private)
    require_signature(bundle, public)
    with pytest.raises(BundleError, match="signed with another key"):
        require_signature(bundle, new_key()[1])
    manifest = bundle / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(BundleError, match="changed after signing"):
        require_signature(bundle, public)
    (bundle / "manifest.sig").write_text("not base64!")
    with pytest.raises(BundleError, match="does not fit"):
        require_signature(bundle, public)


def test_keys_of_other_kinds_are_named(bundle: Path) -> None:
    rsa = generate_private_key(public_exponent=65537, key_size=2048)
    private = rsa.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = rsa.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="not Ed25519"):
        sign(bundle, private)
    with pytest.raises(ValueError, match="bundle keygen"):
        sign(bundle, b"nothing")
    with pytest.raises(BundleError, match="not Ed25519"):
        require_signature(bundle, public)
    with pytest.raises(BundleError, match="cannot be read"):
        require_signature(bundle, b"nothing")


def test_the_commands_make_a_key_sign_a_copy_and_verify_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner()
    key, copy = tmp_path / "k.pem", tmp_path / "signed"
    assert run.invoke(app, ["bundle", "keygen", "--out", str(key)]).exit_code == 0
    assert key.stat().st_mode & 0o077 == 0
    assert run.invoke(app, ["bundle", "keygen", "--out", str(key)]).exit_code == 2, "an existing key was overwritten"
    refused = run.invoke(app, ["bundle", "sign", "daily-swing", "--key", str(key)])
    assert refused.exit_code == 2
    monkeypatch.setenv("SIGNALS_BUNDLE_PUBLIC_KEY", f"{key}.pub")
    assert run.invoke(app, ["bundle", "verify", "daily-swing"]).exit_code == 2
    done = run.invoke(app, ["bundle", "sign", "daily-swing", "--key", str(key), "--out", str(copy)])
    assert done.exit_code == 0, done.output
    assert run.invoke(app, ["bundle", "verify", str(copy)]).exit_code == 0

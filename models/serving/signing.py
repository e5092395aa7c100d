"""Signatures of bundles: Ed25519 over the manifest, which in turn names the sha256 of every other file.

With ``SIGNALS_BUNDLE_PUBLIC_KEY`` set to a PEM file, :func:`models.serving.bundle.load_bundle` refuses what is not
signed by the key that belongs to it: at the start of a job, in every worker, and for a bundle announced on the
rollout topic.
"""

from __future__ import annotations

import base64
import binascii
import os
from importlib.resources.abc import Traversable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models.serving.manifest import BundleError

SIGNATURE = "manifest.sig"
_MANIFEST = "manifest.json"
PUBLIC_KEY_VARIABLE = "SIGNALS_BUNDLE_PUBLIC_KEY"


def new_key() -> tuple[bytes, bytes]:
    """A private key and its public key, both PEM.

    >>> private, public = new_key()
    >>> private.splitlines()[0], public.splitlines()[0]
    (b'-----BEGIN PRIVATE KEY-----', b'-----BEGIN PUBLIC KEY-----')
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def sign(folder: Path, private_key_pem: bytes) -> None:
    """Write the signature into the bundle's folder; ValueError if the key is no Ed25519 private key in PEM."""
    try:
        key = serialization.load_pem_private_key(private_key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"the signing key cannot be read ({error}): make one with `signals bundle keygen`") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"the signing key is {type(key).__name__}, not Ed25519: make one with `signals bundle keygen`")
    signature = key.sign((folder / _MANIFEST).read_bytes())
    (folder / SIGNATURE).write_bytes(base64.b64encode(signature) + b"\n")


def require_signature(folder: Path | Traversable, public_key_pem: bytes) -> None:
    """Raise BundleError unless the bundle's manifest is signed by the private key of this public key (PEM)."""
    try:
        key = serialization.load_pem_public_key(public_key_pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BundleError(f"the key that bundles must be signed with cannot be read: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"the key that bundles must be signed with is {type(key).__name__}, not Ed25519")
    file = folder.joinpath(SIGNATURE)
    if not file.is_file():
        raise BundleError(
            f"{folder} is not signed, and this system takes signed bundles only: `signals bundle sign`, or unset "
            f"{PUBLIC_KEY_VARIABLE}"
        )
    try:
        key.verify(base64.b64decode(file.read_bytes().strip(), validate=True), folder.joinpath(_MANIFEST).read_bytes())
    except (InvalidSignature, binascii.Error):
        raise BundleError(
            f"{folder} has a signature that does not fit its manifest and the configured key: it was changed after "
            "signing, or signed with another key"
        ) from None


def check_signature(folder: Path | Traversable) -> None:
    """:func:`require_signature` with the key that the environment names; nothing if it names none."""
    named = os.environ.get(PUBLIC_KEY_VARIABLE, "")
    if not named:
        return
    try:
        key = Path(named).read_bytes()
    except OSError as error:
        raise BundleError(f"{PUBLIC_KEY_VARIABLE} = {named} cannot be read: {error.strerror}") from None
    require_signature(folder, key)

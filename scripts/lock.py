"""Writes the locks that the images are built from, and checks without a network that they are current.

    python scripts/lock.py           write requirements.lock, docker/*.lock and jars.sha256
    python scripts/lock.py --check   report what is out of date; exit status 1 if anything is

A lock names every package with its version (that of constraints.txt) and the sha256 of each of its files, for Linux on
x86-64 with Python 3.11. ``services.lock`` is the same without Flink, for the image of ingestion, relay and command
line; ``build.lock`` is what builds the wheel. ``jars.sha256`` has the JARs that pom.xml names and all they need.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS, JARS, JAR_SUMS = ROOT / "constraints.txt", ROOT / ".jars", ROOT / "jars.sha256"
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_RUN: list[str] = _PROJECT["project"]["dependencies"]
#: Lock -> the requirements of pyproject.toml that it contains, with their dependencies.
LOCKS = {
    ROOT / "requirements.lock": _RUN,
    ROOT / "docker" / "services.lock": [line for line in _RUN if not line.startswith("apache-flink")],
    ROOT / "docker" / "build.lock": _PROJECT["build-system"]["requires"],
}
_HEAD = "# Written by `make lock` from pyproject.toml and constraints.txt; install with pip --require-hashes.\n"


def pinned(file: Path) -> dict[str, str]:
    """Name -> version of the lines ``name==version`` of a lock or of the constraints."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", file.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def hashes(lock: Path) -> dict[str, int]:
    """Name -> how many files of it the lock accepts."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)
    named = [block for block in blocks if "==" in block.split("\n")[0] and not block.startswith("#")]
    return {
        canonicalize_name(block.split("==")[0]): len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block))
        for block in named
    }


def closure(requirements: list[str]) -> dict[str, str]:
    """All dependencies of these requirements, as installed here: name -> what requires it."""
    found: dict[str, str] = {}
    todo = [(Requirement(line), "pyproject.toml", "") for line in requirements]
    while todo:
        requirement, asked_by, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        known = name in found
        found.setdefault(name, asked_by)
        if known and not requirement.extras:
            continue
        needs = importlib.metadata.requires(requirement.name) or []
        for chosen in (*requirement.extras, ""):
            todo += [(Requirement(line), name, chosen) for line in needs]
    return found


def problems() -> Iterator[str]:
    """What is out of date, each with its remedy."""
    versions = pinned(CONSTRAINTS)
    for lock, requirements in LOCKS.items():
        name = lock.relative_to(ROOT)
        if not lock.exists():
            yield f"{name} is missing: run `make lock`"
            continue
        locked, counts = pinned(lock), hashes(lock)
        for package, asked_by in sorted(closure(requirements).items()):
            if package not in locked:
                yield f"{name} lacks {package} ({asked_by} needs it): run `make lock`"
        for package, version in locked.items():
            if package in versions and versions[package] != version:
                yield f"{name} has {package} {version}, constraints.txt {versions[package]}: run `make lock`"
            if not counts.get(package):
                yield f"{name} names no hash of {package}: run `make lock`"
    if JARS.is_dir():
        sums = jar_sums()
        if not JAR_SUMS.exists() or JAR_SUMS.read_text() != sums:
            yield "jars.sha256 differs from .jars: run `make setup`, then `make lock` if pom.xml was changed on purpose"


def jar_sums() -> str:
    """Lines of ``sha256sum`` for every JAR in .jars."""
    return "".join(
        f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in sorted(JARS.glob("*.jar"))
    )


def write() -> None:
    """Get hashes from the package index and write the locks."""
    for lock, requirements in LOCKS.items():
        with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
            file.write("\n".join(requirements) + "\n")
            file.flush()
            subprocess.run(
                [sys.executable, "-m", "uv", "pip", "compile", file.name, "-c", str(CONSTRAINTS), "--generate-hashes",
                 "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--no-header", "--quiet",
                 "--no-annotate", "--native-tls", "--output-file", str(lock)],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        lock.write_text(_HEAD + lock.read_text())
        print(f"{lock.relative_to(ROOT)}: {len(pinned(lock))} packages")
    JAR_SUMS.write_text(jar_sums())
    print(f"jars.sha256: {len(jar_sums().splitlines())} JARs")


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, report what is out of date")
    if not parser.parse_args().check:
        write()
        return 0
    found = list(problems())
    print("\n".join(found) or "the locks are current")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

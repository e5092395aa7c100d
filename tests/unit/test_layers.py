"""Imports point down: cli -> jobs -> udfs -> connectors -> models, relay -> connectors -> models."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "models": set(),
    "connectors": {"models"},
    "udfs": {"connectors", "models"},
    "relay": {"connectors", "models"},
    "jobs": {"udfs", "connectors", "models"},
    "cli": {"jobs", "udfs", "connectors", "models", "relay"},
}
FLINK = {"jobs/signals.py", "jobs/bars.py", "jobs/outcomes.py"}
FLINK_CLASSES = {"carrier.py", "environment.py", "score.py"}
FILES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    upward = (imported(path) & ALLOWED.keys()) - ALLOWED[package] - {package}
    assert not upward, f"{package} must not import {upward}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pyflink_only_in_jobs_and_thin_classes(path: Path) -> None:
    if "pyflink" not in imported(path):
        return
    place = str(path.relative_to(ROOT))
    thin = path.parent == ROOT / "udfs" and (path.name in FLINK_CLASSES or path.name.startswith("frame_"))
    assert place in FLINK or thin or place == "connectors/kafka.py", f"{place} imports pyflink"

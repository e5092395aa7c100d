"""Links, commands and settings that the documents name exist."""

import re
from pathlib import Path

import pytest

from connectors.kafka.security import KafkaSecurity
from tests.support.commands import COMMANDS, options_of

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "bench" / "README.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_index_lists_every_page() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([^)#]+)\)", (docs / "README.md").read_text()))
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"README.md"}
    assert pages - linked == set()


def test_files_and_folders_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(
        r"`((?:models|udfs|connectors|relay|tests|simulators|docs|jobs|scripts)/[\w./-]*)[^`]*`", text
    ):
        if not re.search(r"NAME|PACKAGE|ROOM", name):
            assert (ROOT / name).exists(), f"CONTRIBUTING.md names {name}"
    for target in re.findall(r"make ([a-z]+)\b", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"make {target}"


def test_decision_records_have_a_number_each_and_a_status() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [record.name.split("-")[0] for record in records]
    assert len(numbers) == len(set(numbers)), f"a number twice: {numbers}"
    for record in records:
        assert "\nStatus: " in record.read_text(), f"{record.name} has no status"


@pytest.mark.parametrize("name", ["deployment.md", "runbook.md", "architecture.md", "sizing.md", "upgrades.md"])
def test_commands_and_settings_are_real(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    for line in re.findall(r"(?:^|`)(signals [a-z][^`#\n]*)", text, re.MULTILINE):
        words = line.split()
        path = next((p for p in sorted(COMMANDS, key=len, reverse=True) if tuple(words[1 : 1 + len(p)]) == p), None)
        assert path, f"{name}: {line}: no such command"
        given = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert given <= options_of(path, COMMANDS[path]), f"{name}: {line}"
    for variable in re.findall(r"SIGNALS_KAFKA_(\w+)", text):
        assert variable.lower() in {*KafkaSecurity.model_fields, "password"}, variable
    for target in re.findall(r"make ([a-z]+)\b", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"make {target}"


def test_the_sizing_guide_states_real_sizes_of_state_and_measured_figures() -> None:
    from models.messages import Bar
    from models.outcomes.tracker import Tracker
    from models.signals.emission import STATE_COLUMNS
    from udfs.kernel.compiler import FeatureConfig, Kernel
    from udfs.steps.outcome_frames import changed_records

    text = (ROOT / "docs" / "sizing.md").read_text()
    kernel = Kernel(FeatureConfig())
    size = len(kernel.encode_state(kernel.new_states(1)[0]))
    assert f"{size:,} bytes per symbol and timeframe: 11,000 symbols are {11_000 * size / 1e6:.0f} MB" in text
    assert f"{8 * STATE_COLUMNS} bytes per symbol and timeframe" in text
    bars = [
        Bar(
            symbol="A",
            timeframe="1m",
            start_ms=60_000 * i,
            end_ms=60_000 * (i + 1),
            open=1,
            high=2,
            low=1,
            close=1,
            volume=1,
        )
        for i in range(200)
    ]
    tracker = Tracker(0.0, None, 60_000)
    tracker.take([], bars, [], 0)
    kept = sum(len(data) for key, data in changed_records(tracker) if key.startswith("bars")) / len(bars)
    whole_mb = 11_000 * 3 * 390 * kept / 1e6
    assert f"{kept:.0f} bytes per bar: 11,000 symbols with three sessions of 390 minutes are {whole_mb:.0f} MB" in text
    measured = (ROOT / "bench" / "README.md").read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    figures = re.findall(r"([\d,]+) (?:bars|trades|messages|deliveries)/s", table)
    assert len(figures) >= 5
    for figure in figures:
        assert figure in measured, f"{figure} per second is not in bench/README.md"

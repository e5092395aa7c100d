"""Links, commands and settings that the documents name exist."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_commands import COMMANDS, options_of

from connectors.kafka_security import KafkaSecurity

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "bench" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", ["deployment.md", "runbook.md", "architecture.md"])
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

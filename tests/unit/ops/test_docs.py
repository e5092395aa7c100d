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


def test_the_sizing_guide_says_the_state_s_real_size_and_measured_figures() -> None:
    from udfs.kernel import FeatureConfig, Kernel

    text = (ROOT / "docs" / "deployment.md").read_text()
    kernel = Kernel(FeatureConfig())
    size = len(kernel.encode_state(kernel.new_states(1)[0]))
    assert f"{size:,} bytes a symbol and timeframe: 11,000 symbols are {11_000 * size / 1e6:.0f} MB" in text
    measured = (ROOT / "bench" / "README.md").read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    for figure in re.findall(r"([\d,]+) bars/s", table):
        assert figure in measured, f"{figure} bars/s is not in bench/README.md"

"""The log lines that docs/logs.md and the runbook name are lines that operators log."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOGGED = "".join(path.read_text() for path in (ROOT / "udfs" / "operators").glob("*.py"))


def test_every_line_that_the_page_names_is_logged():
    table = (ROOT / "docs" / "logs.md").read_text()
    named = [line for row in re.findall(r"^\| (`[^|]+) \|", table, re.M) for line in re.findall(r"`([^`]+)`", row)]
    assert len(named) >= 10
    for line in named:
        assert f'"{line}' in LOGGED, f"no operator logs {line!r}"


def test_the_searches_of_the_runbook_find_lines():
    page = (ROOT / "docs" / "runbook.md").read_text()
    for wanted in re.findall(r"signals-taskmanager \| grep '([^']+)'", page):
        assert f'"{wanted}' in LOGGED

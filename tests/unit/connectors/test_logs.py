"""Log lines for a collector: JSON with the fields that name what a line is about."""

import json
import logging
from collections.abc import Iterator

import pytest

from connectors.logs import configure_logs


@pytest.fixture(autouse=True)
def kept_logging() -> Iterator[None]:
    """Give the test runner its handlers back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_carry_symbol_signal_id_and_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIGNALS_LOG", "json")
    configure_logs()
    log = logging.getLogger("relay")
    log.info("sent %d", 3, extra={"symbol": "BRK.B", "signal_id": "ab-1"})
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "INFO", "logger": "relay", "message": "sent 3", "symbol": "BRK.B", "signal_id": "ab-1",
    }  # fmt: skip
    assert "ValueError: two\nlines" in second["error"]


def test_text_lines_show_the_fields(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SIGNALS_LOG_LEVEL", "WARNING")
    configure_logs()
    logging.getLogger("ingest").info("not shown")
    logging.getLogger("ingest").warning("late", extra={"symbol": "AAPL"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING ingest late symbol=AAPL")


@pytest.mark.parametrize(("name", "value"), [("SIGNALS_LOG", "xml"), ("SIGNALS_LOG_LEVEL", "LOUD")])
def test_an_unknown_form_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} = '{value}': must be"):
        configure_logs()

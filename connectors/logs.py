"""Logs of our processes: readable lines for a person, or one JSON object per line for a collector.

``SIGNALS_LOG=json`` chooses JSON; ``SIGNALS_LOG_LEVEL`` is DEBUG, INFO (default), WARNING or ERROR. A line about a
symbol or signal names it in a field: ``log.info("...", extra={"symbol": ..., "signal_id": ...})``.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

import msgspec

#: Fields that a line may have in addition to its text.
FIELDS = (
    "symbol", "signal_id", "venue", "topic", "instance", "group", "bundle", "model", "reason", "count", "seconds",
    "effective_ms", "layout", "feature_set",
)  # fmt: skip
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time``, ``level``, ``logger``, ``message``, the fields, ``error`` with a traceback.

    >>> record = logging.makeLogRecord({"name": "relay", "msg": "sent", "levelname": "INFO", "created": 0.0,
    ...                                 "symbol": "AAPL"})
    >>> JsonFormatter().format(record)
    '{"time":"1970-01-01T00:00:00.000+00:00","level":"INFO","logger":"relay","message":"sent","symbol":"AAPL"}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {field: str(value) for field in FIELDS if (value := getattr(record, field, None)) is not None}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class _TextFormatter(logging.Formatter):
    """``time level logger message`` followed by the fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name in FIELDS if (value := getattr(record, name, None)) is not None)
        return super().format(record) + fields


def configure_logs() -> None:
    """Set up this process's logs from the environment; ValueError naming a variable with an invalid value."""
    form, level = os.environ.get("SIGNALS_LOG", "text"), os.environ.get("SIGNALS_LOG_LEVEL", "INFO")
    if form not in ("text", "json"):
        raise ValueError(f"SIGNALS_LOG = {form!r}: must be text or json")
    if level not in _LEVELS:
        raise ValueError(f"SIGNALS_LOG_LEVEL = {level!r}: must be one of {', '.join(_LEVELS)}")
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter() if form == "json" else _TextFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)

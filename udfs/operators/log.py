"""What an operator logs: structured lines that name the operator and its instance.

Where the lines go: in thread mode to the standard error of the TaskManager's process (`docker compose logs
signals-taskmanager`; the ``.out`` file of a standalone cluster); in process mode, and from the worker that runs the
models, Flink's own logging takes them into the TaskManager's log. ``SIGNALS_LOG`` and ``SIGNALS_LOG_LEVEL`` apply as
everywhere (:mod:`connectors.logs`). Nothing is logged per frame or bar.
"""

from __future__ import annotations

import logging
from typing import Any

from connectors.logs import configure_logs


class OperatorLog:
    """The log of one instance of an operator.

    >>> log = OperatorLog("features", 0)
    >>> log.once("skipped", "m1"), log.once("skipped", "m1"), log.once("skipped", "m2")
    (True, False, True)
    """

    #: Different first times remembered; past that nothing more is called a first time.
    FIRST_TIMES_MAX = 1_000

    def __init__(self, operator: str, instance: int) -> None:
        if not logging.getLogger().handlers:  # an embedded interpreter begins without any
            configure_logs()
        self._logger = logging.getLogger(f"operator.{operator}")
        self._instance = instance
        self._seen: set[tuple[str, ...]] = set()

    def info(self, message: str, **fields: Any) -> None:
        """What is as it should be."""
        self._logger.info(message, extra=fields | {"instance": self._instance})

    def warning(self, message: str, **fields: Any) -> None:
        """What an operator of the system should look at."""
        self._logger.warning(message, extra=fields | {"instance": self._instance})

    def once(self, *key: str) -> bool:
        """Whether this is the first time: the caller logs then, and is silent about every repeat."""
        if key in self._seen or len(self._seen) >= self.FIRST_TIMES_MAX:
            return False
        self._seen.add(key)
        return True

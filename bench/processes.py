"""Programs under measurement: the processor time of one and all it started, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import numpy as np
import psutil


class ProcessorTime:
    """Processor seconds of a process and all it started, sampled over time."""

    def __init__(self, pid: int) -> None:
        self._root, self._by_pid = psutil.Process(pid), dict[int, float]()
        self.samples: list[tuple[float, float]] = []

    def sample(self) -> None:
        """One reading, with the time of day."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._root, *self._root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    times = process.cpu_times()
                    self._by_pid[process.pid] = times.user + times.system
        self.samples.append((time.time(), sum(self._by_pid.values())))

    def between(self, first_s: float, last_s: float) -> float:
        """Processor seconds spent in an interval of the clock."""
        times, spent = zip(*self.samples, strict=True)
        return float(np.interp(last_s, times, spent) - np.interp(first_s, times, spent))


def end(process: subprocess.Popen[bytes]) -> None:
    """End an engine and what it started, kindly first."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for left in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()

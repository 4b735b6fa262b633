"""What a step takes: time, processor and memory of its process and of the processes that it starts."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from ctr.models.section import Record

_SELF: Final = Path("/proc/self")
_SECONDS_BETWEEN_LOOKS: Final = 0.5


class Usage(Record):
    """Of one execution."""

    seconds: float
    """On the clock."""
    cpu_seconds: float | None = None
    """User and system, of all threads, and of the processes that were started and have ended meanwhile."""
    peak_memory: int | None = None
    """Most bytes resident at once, with started processes; what the process held before the step counts, too. Memory
    that processes share counts in each of them."""


class Meter:
    """Measures while the block runs.

    Resident memory is the kernel's own peak of this process, which it forgets at the start; where it cannot be made to,
    and of processes that are started, it is what is found twice a second.

    Attributes:
      usage: after the block; None before.
    """

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._stopped = threading.Event()
        self._largest = 0

    def __enter__(self) -> Meter:
        self._kernels_peak = _forget_peak()
        self._cpu, self._started = _cpu_seconds(), time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._look()
        self.usage = Usage(
            seconds=time.monotonic() - self._started,
            cpu_seconds=_cpu_seconds() - self._cpu,
            peak_memory=max(self._largest, _peak() if self._kernels_peak else 0) or None,
        )

    def _watch(self) -> None:
        while not self._stopped.wait(_SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        self._largest = max(self._largest, sum(map(_resident, (os.getpid(), *_descendants(os.getpid())))))


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _forget_peak() -> bool:
    try:
        (_SELF / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> int:
    return _bytes_of(_SELF / "status", "VmHWM")


def _resident(process: int) -> int:
    return _bytes_of(Path(f"/proc/{process}/status"), "VmRSS")


def _bytes_of(status: Path, key: str) -> int:
    try:
        lines = status.read_text().splitlines()
    except OSError:
        # It has ended, or this is no Linux.
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def _descendants(process: int) -> Iterator[int]:
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = file.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _descendants(child)

"""One line a component on the terminal: which one runs, how long it took, whether its result was cached."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, TextIO

from ctr.components.progress import said
from ctr.pipeline.process.terminal import LiveLine

_STEP = re.compile(r"(?:node|Component) (\S+) is (running|finished)\.")
"""What BeamDagRunner and LocalDagRunner log around each node's launch."""
_CACHED = re.compile(r"A cached execution \d+ is used\.")
"""What TFX's launcher logs in between where a result is taken from the cache."""


class ComponentProgress(logging.Handler):
    """Follows TFX's log records; attach it to the root logger while a pipeline runs.

    On a terminal a component's line stands while it runs, with what the component says of its progress, and is
    completed when it ends; elsewhere it is written once, at the end.

    Args:
      stream: gets the lines.
      total: components of the pipeline.
      clock: seconds.
      in_place: False where others write to the terminal, too: lines are then written once there as well.
      around: called with the name of each component, gives what is entered when it starts and left when it ends.

    Attributes:
      running: the component that has started and not ended, None between components.
      finished: the components that have ended, in order.
    """

    def __init__(
        self,
        stream: TextIO,
        total: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        in_place: bool = True,
        around: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        super().__init__(logging.INFO)
        self._line = LiveLine(stream, in_place=in_place)
        self._total = total
        self._clock = clock
        self._around = around
        self._open = ExitStack()
        self._cached = False
        self._started = 0.0
        self.running: str | None = None
        self.finished: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Takes one record; those that are not about a component's start, cache or end are ignored."""
        message = record.getMessage()
        step = _STEP.fullmatch(message)
        if step and step[2] == "running":
            self.running, self._started, self._cached = step[1], self._clock(), False
            self._line.over(f"{self._head()} ...")
            self._open.enter_context(self._around(step[1]))
        elif step and step[1] == self.running:
            self._open.close()
            took = "cached" if self._cached else f"{self._clock() - self._started:.1f} s"
            self._line.say(f"{self._head()} {took:>8}")
            self.finished.append(step[1])
            self.running = None
        elif self.running and _CACHED.fullmatch(message):
            self._cached = True
        elif self._line.in_place and (progress := said(message)) and progress[0] == self.running:
            self._line.over(f"{self._head()} {progress[1]}")

    def fail(self) -> None:
        """Completes the running component's line after an error."""
        self._open.close()
        if self.running:
            self._line.say(f"{self._head()}   failed after {self._clock() - self._started:.1f} s")

    def interrupted(self) -> str:
        """The line that says that the run was told to end; written by the caller, over the running component's."""
        if self.running:
            where = f"during {self.running} after {self._clock() - self._started:.1f} s"
        else:
            where = f"after {self.finished[-1]}" if self.finished else "before the first component"
        clear = "\r\x1b[K" if self._line.in_place else ""
        return f"{clear}interrupted {where}; what was finished is kept, run the same command to go on\n"

    def _head(self) -> str:
        return f"[{len(self.finished) + 1:>2}/{self._total}] {self.running:<20}"

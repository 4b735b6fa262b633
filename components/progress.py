"""What a step says of itself while it runs: a logged line now and then, for people.

``ctr.pipeline.process.progress`` shows it beside the step's name on a terminal; on a cluster it stands in the step's
log.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final

_logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES: Final = 10.0

_LINE: Final = "Progress of {}: {}"
_PATTERN: Final = re.compile(_LINE.format(r"(\S+)", "(.*)"))


def say(component: str, text: str) -> None:
    """Logs one line of progress of a node, by its id."""
    _logger.info("%s", _LINE.format(component, text))


def said(message: str) -> tuple[str, str] | None:
    """(component, text) of a logged line of progress, None for any other message."""
    found = _PATTERN.fullmatch(message)
    return (found[1], found[2]) if found else None


def minutes(seconds: float) -> str:
    """E.g. 2:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Counter:
    """Says how much is done and how fast: soon after the start, then ever less often, at last every ten seconds.

    Args:
      component: the node's id.
      unit: what is counted, e.g. "impressions".
      verb: what was done with it, e.g. "scored".
      report: takes component and line.
      clock: seconds.
    """

    def __init__(
        self,
        component: str,
        unit: str,
        verb: str,
        report: Callable[[str, str], None] = say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._component, self._unit, self._verb = component, unit, verb
        self._report, self._clock = report, clock
        self._done = 0
        self._start = clock()
        self._due = 1.0

    def add(self, amount: int) -> None:
        """Counts ``amount`` more."""
        self._done += amount
        seconds = self._clock() - self._start
        if seconds >= self._due:
            self._due = seconds + min(seconds, SECONDS_BETWEEN_LINES)
            rate = f"{self._done / seconds:,.0f} {self._unit}/s"
            self._report(self._component, f"{minutes(seconds)}: {self._done:,} {self._unit} {self._verb}, {rate}")

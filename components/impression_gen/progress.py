"""How far the ingest is: what of each step's work is done, its rate and the time left.

The files in the spool tell it, whatever runs the steps and wherever.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ctr.components.impression_gen.spool import Spool
from ctr.components.progress import SECONDS_BETWEEN_LINES, minutes

_logger = logging.getLogger(__name__)

READ: Final = "read"
"""Rows of a block, bytes of the file."""
SORT: Final = "sort"
"""Rows of a partition; and so on to :data:`WRITE`."""
COUNT: Final = "count"
MERGE: Final = "merge"
CATALOGUE: Final = "catalogue"
VALUES: Final = "values"
ASK: Final = "ask"
PROPOSE: Final = "propose"
"""Requests of a stretch of time."""
WRITE: Final = "write"
"""Rows of a partition, impressions."""

Done = dict[str, tuple[int, ...]]
"""See ``Spool.done``."""


def describe(done: Done, log_bytes: int, partitions: int, seconds: float, step_seconds: float) -> str:
    """One line about the step that is under way.

    Args:
      done: what is done.
      log_bytes: of all files.
      partitions: of users.
      seconds: since the ingest began.
      step_seconds: since this step began, for its rate.
    """
    step = current_step(done)
    if step == READ:
        _, rows, read = done.get(READ, (0, 0, 0))
        share, amount = read / max(log_bytes, 1), f"{rows:,} rows, {read / 1e6:,.0f} of {log_bytes / 1e6:,.0f} MB"
        rate = f"{rows / step_seconds:,.0f} rows/s" if step_seconds else ""
    elif step == WRITE:
        files, rows, impressions = done.get(WRITE, (0, 0, 0))
        share, amount = files / partitions, f"{impressions:,} impressions, {files} of {partitions} partitions"
        rate = f"{impressions / step_seconds:,.0f} impressions/s" if step_seconds else ""
    else:
        files = done.get(step, (0,))[0]
        share, amount = files / partitions, f"{files} of {partitions} partitions"
        rate = ""
    left = f"{minutes(step_seconds * (1 - share) / share)} left in this step" if 0 < share < 1 and step_seconds else ""
    return ", ".join(part for part in (f"{minutes(seconds)}: {_VERBS[step]}", amount, rate, left) if part)


_VERBS: Final = {
    READ: "reading",
    SORT: "sorting",
    COUNT: "counting items",
    ASK: "asking for negatives",
    PROPOSE: "proposing negatives",
    WRITE: "writing impressions",
}


def current_step(done: Done) -> str:
    """The last step that has done anything."""
    return next((step for step in reversed(_VERBS) if step in done), READ)


@contextmanager
def reported(
    spool: Spool, log_bytes: int, partitions: int, report: Callable[[str], None], every: float = SECONDS_BETWEEN_LINES
) -> Iterator[None]:
    """Reports a line now and then while the block runs.

    Args:
      spool: of the ingest.
      log_bytes: of all files.
      partitions: of users.
      report: takes a line, in a thread of its own.
      every: seconds between lines.
    """
    stop = threading.Event()

    def watch() -> None:
        start = time.monotonic()
        began: dict[str, float] = {}
        while not stop.wait(every):
            try:
                done = spool.done()
            except OSError as error:
                # A line less is no reason to stop an ingest.
                _logger.debug("No progress to report: %s", error)
                continue
            if done:
                now = time.monotonic() - start
                step = current_step(done)
                # A step is first seen when it has done something: it began after the line before.
                since = began.setdefault(step, max(0.0, now - every))
                report(describe(done, log_bytes, partitions, now, now - since))

    watcher = threading.Thread(target=watch, name="ingest progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()

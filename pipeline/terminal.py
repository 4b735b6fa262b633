"""Keeps the terminal readable: libraries write into a log file, the run's own lines onto the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import TextIO

_FORMAT = "%(asctime)s %(levelname).1s %(name)s: %(message)s"


@contextlib.contextmanager
def output_to_log(path: str) -> Iterator[TextIO]:
    """Sends the process's output into a log file while the block runs.

    Whatever writes to file descriptors 1 and 2 (C++ libraries, child processes) and every record of level
    INFO and above of :mod:`logging` goes to the file. ``sys.stderr`` stays the terminal, so that progress
    bars are seen; ``sys.stdout`` goes to the file.

    Args:
      path: the log file; its folder is made where missing, an existing file is continued.

    Yields:
      The terminal: what standard error was before.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    root = logging.getLogger()
    before = (sys.stdout, sys.stderr, os.dup(1), os.dup(2), root.handlers[:], root.level)
    with (
        open(path, "a", encoding="utf-8", buffering=1) as log,
        io.TextIOWrapper(os.fdopen(os.dup(2), "wb", 0), encoding="utf-8", errors="replace", write_through=True) as tty,
    ):
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter(_FORMAT))
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        sys.stdout, sys.stderr = log, tty
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield tty
        finally:
            sys.stdout, sys.stderr, out, err, root.handlers[:], level = before
            root.setLevel(level)
            logging.captureWarnings(False)
            for saved, fd in ((out, 1), (err, 2)):
                os.dup2(saved, fd)
                os.close(saved)

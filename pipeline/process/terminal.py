"""What the command line says, and how it keeps the terminal readable while libraries talk.

Results go to standard output, everything else to standard error; libraries write into a log file.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType

LOG_FORMAT: Final = "%(asctime)s %(levelname).1s %(name)s: %(message)s"
_NARROWEST: Final = 40


def width() -> int:
    """Characters in a line: what ``COLUMNS`` or the terminal says, 80 where there is none."""
    return max(_NARROWEST, shutil.get_terminal_size((80, 24)).columns)


def wrapped(line: str, columns: int) -> list[str]:
    """A line in lines of so many characters; a longer word, such as a path, stays whole."""
    return textwrap.wrap(line, columns, break_long_words=False, break_on_hyphens=False) or [""]


def show(content: Callable[[int], RenderableType]) -> None:
    """Prints a result, made for the width, onto standard output: styled on a terminal (``NO_COLOR`` is obeyed), plain
    text elsewhere."""
    from rich.console import Console

    from ctr.components.tables import as_text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    columns = width()
    print(as_text(content(columns), columns, console), flush=True)


@dataclass(frozen=True)
class Terminal:
    """What a command says beside its result, on standard error."""

    quiet: bool = False
    """Say nothing."""
    verbose: bool = False
    """Let libraries' log lines through."""

    def note(self, text: str) -> None:
        """Says something, in lines of the terminal's width; a long word such as a path stays whole."""
        if not self.quiet:
            lines = text.splitlines()
            if sys.stderr.isatty():
                lines = [part for line in lines for part in wrapped(line, width())]
            print("\n".join(lines), file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Says what is waited for; on a terminal the line goes when the block ends."""
        passing = sys.stderr.isatty() and not self.verbose
        if self.quiet or not passing:
            self.note(f"{text} ...")
            yield
            return
        stream = sys.stderr
        stream.write(f"{text} ..."[: width() - 1])
        stream.flush()
        try:
            yield
        finally:
            stream.write("\r\x1b[K")
            stream.flush()

    def loading(self, what: str = "TensorFlow and TFX") -> contextlib.AbstractContextManager[None]:
        """:meth:`waiting` for libraries."""
        return self.waiting(f"Loading {what}")


class LiveLine:
    """Writes lines, and on a terminal one below them that passes.

    Args:
      stream: gets the lines.
      in_place: False where others write to the terminal, too: nothing passes there then.
    """

    def __init__(self, stream: TextIO, *, in_place: bool = True) -> None:
        self._stream = stream
        self.in_place = in_place and stream.isatty()

    def say(self, text: str) -> None:
        """Writes a line that stays, in the place of the one that passes."""
        self._stream.write(f"\r\x1b[K{text}\n" if self.in_place else f"{text}\n")
        self._stream.flush()

    def over(self, text: str) -> None:
        """Shows a line until the next one, an empty one for none; only on a terminal."""
        if self.in_place:
            # What goes over into the next line could not be written over.
            self._stream.write(f"\r\x1b[K{text[: width() - 1]}")
            self._stream.flush()


@contextlib.contextmanager
def output_to_log(path: str, terminal: Terminal | None = None) -> Iterator[TextIO]:
    """Sends the process's output into a log file while the block runs.

    Whatever writes to file descriptors 1 and 2 (C++ libraries, child processes) and every record of level
    INFO and above of :mod:`logging` goes to the file. ``sys.stderr`` stays the terminal, so that progress
    bars are seen; ``sys.stdout`` goes to the file.

    Args:
      path: the log file; its folder is made where missing, an existing file is continued.
      terminal: if it is verbose, records go there, too; if it is quiet, progress bars do not.

    Yields:
      The terminal: what standard error was before, or nowhere if the terminal is quiet.
    """
    terminal = terminal or Terminal()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    root = logging.getLogger()
    before = (sys.stdout, sys.stderr, os.dup(1), os.dup(2), root.handlers[:], root.level)
    with (
        open(path, "a", encoding="utf-8", buffering=1) as log,
        io.TextIOWrapper(os.fdopen(os.dup(2), "wb", 0), encoding="utf-8", errors="replace", write_through=True) as tty,
    ):
        handlers: list[logging.Handler] = [
            logging.StreamHandler(log),
            *([logging.StreamHandler(tty)] if terminal.verbose else []),
        ]
        for handler in handlers:
            handler.setFormatter(logging.Formatter(LOG_FORMAT))
        root.handlers[:] = handlers
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        sys.stdout, sys.stderr = log, log if terminal.quiet else tty
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield io.StringIO() if terminal.quiet else tty
        finally:
            sys.stdout, sys.stderr, out, err, root.handlers[:], level = before
            root.setLevel(level)
            logging.captureWarnings(False)
            for saved, fd in ((out, 1), (err, 2)):
                os.dup2(saved, fd)
                os.close(saved)

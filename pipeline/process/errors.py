"""The one line of an error that a person needs, out of what Beam and TFX wrap around it."""

from __future__ import annotations

import re
from typing import Final

_MAX_LINES: Final = 20
_BEAM_NOTE = re.compile(r" ?\[while running '[^\n]*'\]")
_TRACEBACK: Final = "Traceback (most recent call last):"
_MODULES = re.compile(r"^(?:[A-Za-z_]\w*\.)+(?=\w+(?:$|:))")
_EXCEPTION_LINE = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Failed|Interrupt|Warning|Exit)\b")


def reason(error: BaseException) -> str:
    """What went wrong, without tracebacks and Beam's notes; at most 20 lines.

    Beam re-raises a worker's error with a note on the step, as a ``RuntimeError`` whose text starts with the
    error's own type, or with the whole traceback as its text; then the last error of that traceback counts.
    """
    text = str(error)
    name = type(error).__name__
    if _TRACEBACK in text:
        lines = text.rstrip().splitlines()
        starts = [i for i, line in enumerate(lines) if _EXCEPTION_LINE.match(line)]
        text = "\n".join(lines[starts[-1] :]) if starts else lines[-1]
    elif not (isinstance(error, RuntimeError) and _EXCEPTION_LINE.match(text)):
        text = f"{name}: {text}" if text else name
    text = _MODULES.sub("", text)
    lines = _BEAM_NOTE.sub("", text).strip().splitlines()
    if len(lines) > _MAX_LINES:
        lines = [*lines[:_MAX_LINES], f"... ({len(lines) - _MAX_LINES} more lines in the log)"]
    return "\n".join(lines)

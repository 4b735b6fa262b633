"""Each change of a label, a line of JSON each; lines are only ever added.

A line says what has happened. So the labels move first, and what is to be written of it lies in a file beside until it
is: a process that ends between the two leaves that file, of which :func:`settle` makes a line, or none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, Literal

from pydantic import ValidationError

from ctr.models.errors import CtrError
from ctr.models.section import Record
from ctr.pipeline.release.shadow_record import Shadow

RECORD_FILE: Final = "release.jsonl"
"""Beside the versions."""
_INTENDED: Final = ".release.intended"
"""JSON of an :class:`Intended`."""

Action = Literal["canary", "promote", "rollback"]


class Change(Record):
    """One change."""

    time: str
    """ISO 8601, with its offset."""
    by: str
    """``user@host`` of the process."""
    action: Action
    before: dict[str, int]
    """Label -> version; empty at the first release."""
    after: dict[str, int]
    reason: str
    """Of the person; may be empty."""
    verdict: str | None
    """Of the version that a label moved to, when it was pushed, in words; None where nothing was read of it."""
    execution: str | None
    """Number of its push in ML Metadata; likewise."""
    run_id: str | None = None
    """Of its push; None where no metadata lies beside the versions."""
    shadow: Shadow | None = None
    """What it was compared with before; None of a change without a comparison."""


class Intended(Record):
    """A change that is being made."""

    config: str
    """The file whose labels move."""
    change: Change


def intend(folder: str, intended: Intended) -> None:
    """Keeps it, on the disk when this returns, until :func:`settle` is called."""
    path = os.path.join(folder, _INTENDED)
    with open(f"{path}.incoming", "w", encoding="utf-8") as file:
        file.write(intended.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.incoming", path)


def settle(folder: str, labels_of: Callable[[str], Mapping[str, int]]) -> None:
    """Adds the line of a change that was intended, if it was made; nothing where none was.

    Args:
      folder: of the versions.
      labels_of: path of a file with labels -> label -> version, as it is now.
    """
    path = os.path.join(folder, _INTENDED)
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as file:
        intended = Intended.model_validate_json(file.read())
    if labels_of(intended.config) == intended.change.after:
        _cut_unfinished_line(os.path.join(folder, RECORD_FILE))
        if read(folder)[-1:] != [intended.change]:
            append(folder, intended.change)
    os.unlink(path)


def _cut_unfinished_line(path: str) -> None:
    if os.path.exists(path):
        with open(path, "rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def append(folder: str, change: Change) -> None:
    """Adds a line, which is on the disk when this returns."""
    descriptor = os.open(os.path.join(folder, RECORD_FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, (change.model_dump_json() + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(folder: str) -> list[Change]:
    """All changes, the newest last.

    Raises:
      CtrError: at a line that another version of this project wrote, or that is cut.
    """
    path = os.path.join(folder, RECORD_FILE)
    if not os.path.exists(path):
        return []
    found = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                found.append(Change.model_validate_json(line))
            except ValidationError as error:
                problem = error.errors()[0]
                where = ".".join(map(str, problem["loc"])) or "the line"
                raise CtrError(f"{path}, line {number}: {where}: {problem['msg'].lower()}") from error
    return found

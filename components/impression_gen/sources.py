"""Which files are logs: the files that ``data`` names, and the members of archives.

``data`` is the name of a file or of a folder, never a pattern. Of a folder the logs directly in it are read, and those
of a folder in it whose own name ends like a log's, as Spark writes them (``log.csv/part-00000.csv``). Names that begin
with ``.`` or ``_`` are passed over, as Spark and Hadoop do (``._log.csv``, ``_SUCCESS``); the case of a suffix is not
looked at.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple

from ctr.components import quarantine
from ctr.components.files import is_address, list_folder, open_file, stat
from ctr.components.impression_gen import hints
from ctr.models.errors import ConfigError, DataError

SUFFIXES: Final = (".csv", ".csv.gz", ".csv.zip")

_NAMES_SHOWN: Final = 5


class NoLogError(ConfigError):
    """``data`` names no log; the message says what is there instead."""


class Found(NamedTuple):
    """What ``data`` names."""

    files: list[str]
    """Sorted."""
    ignored: list[str]
    """Names in the folder that are neither logs nor hidden, sorted."""


@dataclass(frozen=True)
class Source:
    """One log: a file, or a member of a zip archive."""

    path: str
    size: int
    """Bytes of the file."""
    member: str | None = None

    @property
    def label(self) -> str:
        """How quarantined rows name it: printable, whatever the name holds."""
        name = os.path.basename(self.path) + (f":{self.member}" if self.member is not None else "")
        return quarantine.escape(os.fsencode(name))

    @property
    def splittable(self) -> bool:
        """Whether it can be read from the middle."""
        return self.path.lower().endswith(".csv")


def find_logs(data: str) -> Found:
    """The logs that a name of a file or a folder stands for.

    Raises:
      NoLogError: if there is none, the file is of another kind, or a link leads nowhere.
    """
    if not data:
        raise NoLogError(f"data: name a behaviour log ({', '.join(SUFFIXES)}) or a folder of them")
    if not is_address(data) and not os.path.isdir(data):
        if not is_log(data):
            _require_file(data)
            raise NoLogError(f"data: {data} {_other_kind(data)}")
        return Found([data], []) if _require_file(data) else Found([], [])
    if is_address(data) and is_log(data) and not list_folder(data):
        return Found([data], [])
    found = logs_in(data)
    if not found.files:
        raise NoLogError(f"data: the folder {data} holds no {_or(SUFFIXES)} file; {_what_is_there(found.ignored)}")
    return found


def logs_in(folder: str) -> Found:
    """The logs of a folder; there may be none.

    Raises:
      NoLogError: if a log's name is a link that leads nowhere.
    """
    files, ignored = [], []
    for name, is_folder in list_folder(folder).items():
        path = os.path.join(folder, name)
        if _is_hidden(name):
            continue
        if not is_log(name):
            ignored.append(name)
        elif is_folder:
            within = [inner for inner, deeper in list_folder(path).items() if not deeper and not _is_hidden(inner)]
            files += [os.path.join(path, inner) for inner in within if is_log(inner)]
            ignored += [f"{name}/{inner}" for inner in within if not is_log(inner)]
        else:
            files.append(path)
    if not is_address(folder):
        for path in files:
            _require_file(path)
    return Found(sorted(files), sorted(ignored))


def list_sources(paths: Iterable[str]) -> list[Source]:
    """The logs in files, in the order of the paths and, within an archive, of its directory.

    Raises:
      DataError: if an archive cannot be read or holds no log.
    """
    sources = []
    for path in paths:
        size = stat(path).size
        if not path.lower().endswith(".zip"):
            sources.append(Source(path, size))
            continue
        try:
            with closing(open_file(path)) as raw:
                hints.check_kind(path, raw.read(hints.MAGIC_BYTES))
                archive = zipfile.ZipFile(raw)
                names = [member.filename for member in archive.infolist() if not member.is_dir()]
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: not a readable zip archive: {error}") from error
        # macOS adds a shadow file for each member, in a folder __MACOSX.
        seen = [name for name in names if not any(map(_is_hidden, name.split("/")))]
        members = [name for name in seen if name.lower().endswith(".csv")]
        if not members:
            raise DataError(f"{path}: the archive holds no .csv file; {_what_is_there(sorted(seen))}")
        sources += [Source(path, size, member) for member in members]
    return sources


def is_log(name: str) -> bool:
    """Whether a file of this name is one."""
    return name.lower().endswith(SUFFIXES)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _require_file(path: str) -> bool:
    if os.path.isfile(path):
        return True
    if os.path.islink(path):
        raise NoLogError(f"data: {path} is a link to {os.readlink(path)}, which does not exist; mend or remove it")
    if os.path.exists(path):
        raise NoLogError(f"data: {path} is neither a file nor a folder")
    raise NoLogError(f"data: {path} does not exist")


def _other_kind(path: str) -> str:
    with open_file(path) as file:
        kind = hints.kind_of(file.read(hints.MAGIC_BYTES))
    said = f"; by its first bytes it is {kind.name}: {kind.advice}" if kind else ""
    return f"is no {_or(SUFFIXES)} file{said}"


def _what_is_there(names: list[str]) -> str:
    if not names:
        return "it is empty, or its files are hidden (. or _ before the name)"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"it holds {', '.join(names[:_NAMES_SHOWN])}{more}"


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"

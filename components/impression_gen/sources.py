"""Which files are logs: the files that ``data`` names, and the members of archives.

``data`` is the name of a file or of a folder, never a pattern. Of a folder the logs directly in it are read, and those
of a folder in it whose own name ends like a log's, as Spark writes them (``log.csv/part-00000.csv``), or is
``KEY=VALUE``, as Hive's partitions are (``day=2024-05-01/hour=3/part-0.parquet``). Names that begin with ``.`` or ``_``
are passed over, as Spark and Hadoop do (``._log.csv``, ``_SUCCESS``); the case of a suffix is not looked at.
"""

from __future__ import annotations

import itertools
import os
import re
import zipfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote

from ctr.components import quarantine
from ctr.components.dataset import PUBLIC_LOG, Compression, DatasetConfig
from ctr.components.files import is_address, is_table, list_folder, open_file, stat
from ctr.components.impression_gen import hints
from ctr.models.errors import ConfigError, DataError

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
    compression: Compression = "none"
    partition: tuple[tuple[str, str], ...] = ()
    """Of the folders that it lies in: names and values of Hive's columns."""

    @property
    def label(self) -> str:
        """How quarantined rows name it: printable, whatever the name holds."""
        within = "".join(f"{name}={value}/" for name, value in self.partition)
        name = within + os.path.basename(self.path) + (f":{self.member}" if self.member is not None else "")
        return quarantine.escape(os.fsencode(name))

    @property
    def splittable(self) -> bool:
        """Whether it can be read from the middle."""
        return self.compression == "none"


def find_logs(data: str, dataset: DatasetConfig = PUBLIC_LOG) -> Found:
    """The logs of a description that a name of a file or a folder stands for.

    Raises:
      NoLogError: if there is none, the file is of another kind, or a link leads nowhere.
    """
    if is_table(data) or dataset.format == "bigquery":
        return Found([_table(data, dataset)], [])
    if not data:
        raise NoLogError(f"data: name a behaviour log ({', '.join(dataset.suffixes)}) or a folder of them")
    if not is_address(data) and not os.path.isdir(data):
        if not dataset.is_log(data):
            _require_file(data)
            raise NoLogError(f"data: {data} {_other_kind(data, dataset)}")
        return Found([data], []) if _require_file(data) else Found([], [])
    if is_address(data) and dataset.is_log(data) and not list_folder(data):
        return Found([data], [])
    found = logs_in(data, dataset)
    if not found.files:
        raise NoLogError(f"data: the folder {data} holds no {_names(dataset)} file; {_what_is_there(found.ignored)}")
    return found


def _table(data: str, dataset: DatasetConfig) -> str:
    if dataset.format != "bigquery":
        raise NoLogError(f"data: {data} is a table; describe it with format: bigquery (--dataset)")
    if not re.fullmatch(r"bq://[\w.:-]+\.\w+\.[\w$-]+", data):
        raise NoLogError(f"data: {data} is no table; write bq://PROJECT.DATASET.TABLE")
    return data


def logs_in(folder: str, dataset: DatasetConfig = PUBLIC_LOG) -> Found:
    """The logs of a folder; there may be none.

    Raises:
      NoLogError: if a log's name is a link that leads nowhere.
    """
    files, ignored = [], []
    for name, is_folder in list_folder(folder).items():
        path = os.path.join(folder, name)
        if _is_hidden(name):
            continue
        if is_folder and "=" in name:
            found = logs_in(path, dataset)
            files += found.files
            ignored += [f"{name}/{inner}" for inner in found.ignored]
        elif not dataset.is_log(name):
            ignored.append(name)
        elif is_folder:
            within = [inner for inner, deeper in list_folder(path).items() if not deeper and not _is_hidden(inner)]
            files += [os.path.join(path, inner) for inner in within if dataset.is_log(inner)]
            ignored += [f"{name}/{inner}" for inner in within if not dataset.is_log(inner)]
        else:
            files.append(path)
    if not is_address(folder):
        for path in files:
            _require_file(path)
    return Found(sorted(files), sorted(ignored))


def list_sources(paths: Iterable[str], dataset: DatasetConfig = PUBLIC_LOG) -> list[Source]:
    """The logs in files, in the order of the paths and, within an archive, of its directory.

    Raises:
      DataError: if an archive cannot be read or holds no log.
    """
    sources = []
    for path in paths:
        size, packed, partition = stat(path).size, dataset.compression_of(path), partition_of(path)
        if packed != "zip":
            sources.append(Source(path, size, None, packed, partition))
            continue
        try:
            with closing(open_file(path)) as raw:
                hints.check_kind(path, raw.read(hints.MAGIC_BYTES), dataset)
                archive = zipfile.ZipFile(raw)
                names = [member.filename for member in archive.infolist() if not member.is_dir()]
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: not a readable zip archive: {error}") from error
        # macOS adds a shadow file for each member, in a folder __MACOSX.
        seen = [name for name in names if not any(map(_is_hidden, name.split("/")))]
        plain = dataset.plain_suffixes
        members = [name for name in seen if name.lower().endswith(plain)]
        if not members:
            raise DataError(f"{path}: the archive holds no {_or(plain)} file; {_what_is_there(sorted(seen))}")
        sources += [Source(path, size, member, packed, partition) for member in members]
    return sources


def partition_of(path: str) -> tuple[tuple[str, str], ...]:
    """Names and values of the ``KEY=VALUE`` folders right above a file, outermost first."""
    folders = os.path.dirname(path).split("/")
    inner = itertools.takewhile(lambda folder: "=" in folder, reversed(folders))
    pairs = [folder.partition("=")[::2] for folder in inner]
    return tuple((unquote(name), unquote(value)) for name, value in reversed(pairs))


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


def _other_kind(path: str, dataset: DatasetConfig) -> str:
    with open_file(path) as file:
        kind = hints.kind_of(file.read(hints.MAGIC_BYTES))
    said = f"; by its first bytes it is {kind.name}: {kind.advice}" if kind else ""
    return f"is no {_names(dataset)} file{said}"


def _what_is_there(names: list[str]) -> str:
    if not names:
        return "it is empty, or its files are hidden (. or _ before the name)"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"it holds {', '.join(names[:_NAMES_SHOWN])}{more}"


def _names(dataset: DatasetConfig) -> str:
    return dataset.files if dataset.files is not None else _or(dataset.suffixes)


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]

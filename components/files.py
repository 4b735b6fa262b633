"""Files of a log by their names, on this machine or at an address that Beam has a file system for.

A name is a name here, whatever characters it holds: nothing is a pattern. Beam, whose import takes seconds, is loaded
for addresses alone.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
from typing import IO, Any, Final, NamedTuple

from ctr.models.errors import CtrError

TABLE: Final = "bq://"
_S3: Final = "s3://"
_NANOSECONDS: Final = 10**9


class MissingPackage(CtrError):
    """An address of a kind that a package more is needed for; the message names it."""


class Stat(NamedTuple):
    """What the cache compares of a file."""

    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970."""


def is_address(path: str) -> bool:
    """Whether a path is an address such as ``gs://bucket/log.csv``."""
    return "://" in path


def is_table(path: str) -> bool:
    """Whether a path is a table of BigQuery, ``bq://project.dataset.table``."""
    return path.startswith(TABLE)


def absolute(path: str) -> str:
    """The path that means the same from any working directory; addresses and nothing stay as they are."""
    return os.path.abspath(os.path.expanduser(path)) if path and not is_address(path) else path


def open_file(path: str) -> IO[bytes]:
    """Opens a file's bytes as they are, compressed or not."""
    if not is_address(path):
        return open(path, "rb")
    from apache_beam.io.filesystem import CompressionTypes

    opened: IO[bytes] = _file_systems(path).open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return opened


def create_file(path: str) -> IO[bytes]:
    """Opens a new file, its folder made where missing, for bytes that are written as they are."""
    if not is_address(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "wb")
    from apache_beam.io.filesystem import CompressionTypes

    created: IO[bytes] = _file_systems(path).create(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return created


def stat(path: str) -> Stat:
    """Size and time of a file.

    Raises:
      OSError: if there is none.
    """
    if not is_address(path):
        found = os.stat(path)
        return Stat(found.st_size, found.st_mtime_ns)
    if is_table(path):
        return _stat_of_table(path)
    for metadata in _match(path):
        return Stat(metadata.size_in_bytes, int(metadata.last_updated_in_seconds * _NANOSECONDS))
    raise FileNotFoundError(f"{path} does not exist")


def _stat_of_table(path: str) -> Stat:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud import bigquery

    try:
        found = bigquery.Client().get_table(path.removeprefix(TABLE))
    except GoogleAPICallError as error:
        raise OSError(f"{path}: BigQuery does not show it: {error}") from error
    return Stat(int(found.num_bytes), int(found.modified.timestamp() * _NANOSECONDS))


def checksum(address: str) -> str | None:
    """What a store says of a file's content, such as a CRC; None where it says no more than the size.

    Raises:
      OSError: if there is none.
    """
    if is_table(address):
        return f"modified-{stat(address).modified}"
    from apache_beam.io.filesystem import BeamIOError

    try:
        found = str(_file_systems(address).checksum(address))
    except BeamIOError as error:
        raise OSError(f"{address}: its checksum cannot be asked for: {error}") from error
    return None if found == str(stat(address).size) else found


def list_folder(folder: str) -> dict[str, bool]:
    """What lies directly in a folder: name -> whether it is a folder itself; of an address also without a folder.

    Raises:
      OSError: if there is no such folder on this machine, or it cannot be read.
    """
    if not is_address(folder):
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_dir() for entry in entries}
    base = folder.rstrip("/") + "/"
    # Object stores have files alone: a folder shows in the names of what lies in it.
    names = [path[len(base) :] for path in _below(base)]
    return {name.partition("/")[0]: "/" in name for name in names if name}


def remove_folder(folder: str) -> None:
    """Deletes a folder of files, if there is one."""
    if not is_address(folder):
        if os.path.isdir(folder):
            shutil.rmtree(folder)
        return
    # One by one: S3 knows no pattern here. Google's takes each name as one.
    if found := _below(folder.rstrip("/") + "/"):
        _file_systems(folder).delete([glob.escape(path) for path in found])


def _below(base: str) -> list[str]:
    """All files below an address that ends with a slash."""
    return list(dict.fromkeys(metadata.path for metadata in (*_match(base, "*"), *_match(base, "*/**"))))


def _file_systems(address: str) -> Any:
    """Beam's, which know the address."""
    if address.startswith(_S3) and importlib.util.find_spec("boto3") is None:
        raise MissingPackage(f"{address}: reading s3:// needs boto3, which is not installed: pip install boto3")
    from apache_beam.io.filesystems import FileSystems

    if FileSystems._pipeline_options is None:
        # Outside a pipeline nobody has set any, and without some S3 is not even tried.
        from apache_beam.options.pipeline_options import PipelineOptions

        FileSystems.set_options(PipelineOptions([]))
    return FileSystems


def _match(path: str, pattern: str = "") -> list[Any]:
    # Beam's patterns know no quoting but sets of one character, and those are what glob makes.
    return list(_file_systems(path).match([glob.escape(path) + pattern])[0].metadata_list)

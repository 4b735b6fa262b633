"""What the log of a run held, to the byte: by it two runs can be told to have read the same data."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing

from ctr.components.files import create_file, open_file
from ctr.models.section import Record

LOG_FILE = "log.json"


class LogFile(Record):
    """One file of a log, compressed as it is."""

    name: str
    """Below the folder that was read, or the file's own."""
    size: int
    """Bytes."""
    sha256: str | None
    """Of its bytes, as ``sha256sum`` prints it; None at an address."""
    checksum: str | None
    """At an address, what its store says of the content, such as a CRC; None where it says nothing."""


class LogContent(Record):
    """Of one ingest."""

    path: str
    """That was read: a file or a folder."""
    span: int
    """0 where the path has no place for one."""
    version: int | None
    """Of the span."""
    files: tuple[LogFile, ...]
    """In the order read."""

    @property
    def digest(self) -> str:
        """``sha256:`` and that of the one file, or of what ``sha256sum`` prints of several in this order;
        ``checksum:`` likewise where a store's checksums stand for them, and ``unknown`` where a file has neither."""
        if all(file.sha256 for file in self.files):
            lines = [f"{file.sha256}  {file.name}\n" for file in self.files]
            only = self.files[0].sha256 if len(self.files) == 1 else None
            return f"sha256:{only or hashlib.sha256(''.join(lines).encode()).hexdigest()}"
        known = [file.sha256 or file.checksum for file in self.files]
        if not all(known):
            return "unknown"
        lines = [f"{each}  {file.size}  {file.name}\n" for each, file in zip(known, self.files, strict=True)]
        return f"checksum:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @classmethod
    def read(cls, uri: str) -> LogContent:
        """Reads ``log.json`` of a catalogue artifact.

        Raises:
          FileNotFoundError: if there is none.
        """
        with closing(open_file(os.path.join(uri, LOG_FILE))) as file:
            return cls.model_validate_json(file.read())

    def write(self, uri: str) -> None:
        """Writes ``log.json`` into a catalogue artifact's folder."""
        with closing(create_file(os.path.join(uri, LOG_FILE))) as file:
            file.write(self.model_dump_json(indent=2).encode() + b"\n")

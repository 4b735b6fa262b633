"""Hashes a log while it is ingested."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ctr.components import quarantine
from ctr.components.examples.log_content import LogFile
from ctr.components.files import checksum, is_address, stat

_CHUNK: Final = 1 << 20


@contextlib.contextmanager
def hashed(path: str, files: Sequence[str]) -> Iterator[Callable[[], tuple[LogFile, ...]]]:
    """Hashes files in a thread while the block runs; where the block fails, it stops.

    Files of this machine are read once more, ahead of the workers or out of the memory that theirs left them in.
    At an address that would be a second download, by one process of what many read: there it asks the store.

    Args:
      path: that was read, a file or a folder.
      files: of it.

    Yields:
      What waits for the hashes and gives them in the order of the files; it raises OSError if one cannot be read.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as executor:
        found = executor.submit(lambda: tuple(_file(path, file, stopped) for file in files))
        try:
            yield found.result
        finally:
            stopped.set()


def _file(path: str, file: str, stopped: threading.Event) -> LogFile:
    relative = os.path.relpath(file, path) if file != path else os.path.basename(file)
    return LogFile(
        # Names need not be text, and JSON is.
        name=quarantine.escape(os.fsencode(relative)),
        size=stat(file).size,
        sha256=None if is_address(file) else _sha256(file, stopped),
        checksum=checksum(file) if is_address(file) else None,
    )


def _sha256(file: str, stopped: threading.Event) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while (chunk := opened.read(_CHUNK)) and not stopped.is_set():
            digest.update(chunk)
    return digest.hexdigest()

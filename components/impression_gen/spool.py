"""Bulk data on its way between steps: it lies in files, and Beam moves references to it.

A runner copies each element from step to step, some through the memory of one process. A reference is small: so the
log is never in a runner's memory, and a worker reads only the parts that it needs.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import numpy as np

from ctr.components.files import create_file, is_address, list_folder, open_file, remove_folder
from ctr.models.arrays import Array

Parcel = tuple[str, int, int]
"""Name of the file in the spool, first byte, bytes."""

NOTHING: Final[Parcel] = ("", 0, 0)
"""No bytes."""


class Spool:
    """A folder of files, each written once by one worker.

    A file's name also says how much of a step's work is done when it stands there; see :meth:`done`.

    Args:
      folder: where every worker can write and read.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @contextmanager
    def file(self, step: str, *amounts: int) -> Iterator[Callable[[bytes], Parcel]]:
        """Opens a new file; a parcel may be read when the block has ended.

        Args:
          step: whose work the file is.
          amounts: what of it is done with this file.

        Yields:
          what writes bytes and returns their parcel.
        """
        name = "-".join([step, *map(str, amounts), uuid.uuid4().hex])
        end = 0
        path = os.path.join(self.folder, name)
        with closing(create_file(path)) as file:

            def write(data: bytes) -> Parcel:
                nonlocal end
                file.write(data)
                end += len(data)
                return name, end - len(data), len(data)

            yield write

    def read(self, parcel: Parcel) -> bytes:
        """The bytes of a parcel."""
        name, start, length = parcel
        if not length:
            return b""
        path = os.path.join(self.folder, name)
        with closing(open_file(path)) as file:
            file.seek(start)
            data = bytes(file.read(length))
        if len(data) != length:
            raise OSError(f"{path}: {len(data)} bytes from {start} on, not {length}; was the file cut?")
        return data

    def map(self, parcel: Parcel, dtype: np.dtype[Any]) -> Array:
        """A parcel as an array, of which a file on this machine gives no more to memory than what is looked at."""
        name, start, length = parcel
        path = os.path.join(self.folder, name)
        if not length or is_address(path):
            return np.frombuffer(self.read(parcel), dtype)
        # Of an array of another class each look would make one more object.
        return np.asarray(np.memmap(path, dtype, "r", start, (length // dtype.itemsize,)))

    def done(self) -> dict[str, tuple[int, ...]]:
        """Step -> (files, sum of the first amount, of the second, ...); work done twice counts twice."""
        totals: dict[str, tuple[int, ...]] = {}
        try:
            names = list_folder(self.folder)
        except FileNotFoundError:
            # Nothing is done yet.
            return totals
        for name in names:
            step, *amounts, _ = name.split("-")
            now = (1, *map(int, amounts))
            totals[step] = tuple(a + b for a, b in zip(totals.get(step, (0,) * len(now)), now, strict=True))
        return totals

    def remove(self) -> None:
        """Deletes the folder."""
        remove_folder(self.folder)

"""The dictionary of a log whose ids are strings, part of its catalogue artifact: Parquet files of ids and strings."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import closing

import pyarrow as pa
import pyarrow.compute as pc

from ctr.components.files import list_folder, open_file
from ctr.components.parquet import open_parquet

NAMES_FOLDER = "ids"


def names_path(uri: str, field: str, shard: int) -> str:
    """The file of a range of the ids of a field (``user``, ``item`` or ``category``)."""
    return os.path.join(uri, NAMES_FOLDER, f"{field}-{shard:05d}.parquet")


def read_names(uri: str, field: str, ids: Collection[int]) -> dict[int, str]:
    """The strings of some ids; an id that is no string's is not there.

    Args:
      uri: of the catalogue.
      field: ``user``, ``item`` or ``category``.
      ids: looked for.
    """
    try:
        files = sorted(name for name in list_folder(os.path.join(uri, NAMES_FOLDER)) if name.startswith(f"{field}-"))
    except FileNotFoundError:
        return {}
    found: dict[int, str] = {}
    wanted = pa.array(ids, pa.int64())
    for name in files:
        path = os.path.join(uri, NAMES_FOLDER, name)
        with closing(open_file(path)) as file:
            table = open_parquet(file, path).read()
        table = table.filter(pc.is_in(table["id"], value_set=wanted))
        strings = [string.decode("utf-8", "replace") for string in table["name"].to_pylist()]
        found.update(zip(table["id"].to_pylist(), strings, strict=True))
    return found

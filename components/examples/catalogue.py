"""The items and categories of the train split with their counts, and the files that hold them."""

from __future__ import annotations

import io
import os
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from ctr.components.files import create_file, open_file
from ctr.models.arrays import Int64Array
from ctr.models.errors import DataError

ITEMS_FILE = "items.tsv"
CATEGORIES_FILE = "categories.tsv"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items and categories, each sorted by falling count, then by id.

    An item's category is the one it was logged with most often in the train split, ties to the smallest id.
    A category's count is of the events logged with it.
    """

    item_ids: Int64Array
    """[I]"""
    item_categories: Int64Array
    """[I]"""
    item_counts: Int64Array
    """[I] events of the train split, at least 1."""
    category_ids: Int64Array
    """[C]"""
    category_counts: Int64Array
    """[C]"""

    @classmethod
    def from_counts(cls, counts: npt.NDArray[np.void]) -> Catalogue:
        """Builds it from [n] ITEM_COUNT, each (item, category) once."""
        counts = counts[counts["train_events"] > 0]
        order = np.lexsort((counts["category"], -counts["train_events"], counts["item"]))
        counts = counts[order]
        item_ids, first, inverse = np.unique(counts["item"], return_index=True, return_inverse=True)
        item_counts = np.bincount(inverse, counts["train_events"], len(item_ids)).astype(np.int64)
        by_count = np.lexsort((item_ids, -item_counts))
        category_ids, inverse = np.unique(counts["category"], return_inverse=True)
        category_counts = np.bincount(inverse, counts["train_events"], len(category_ids)).astype(np.int64)
        categories_by_count = np.lexsort((category_ids, -category_counts))
        return cls(
            item_ids[by_count],
            counts["category"][first][by_count],
            item_counts[by_count],
            category_ids[categories_by_count],
            category_counts[categories_by_count],
        )

    @classmethod
    def read(cls, uri: str) -> Catalogue:
        """Reads what :meth:`write` wrote.

        Args:
          uri: the catalogue artifact's folder, on any file system that Beam knows.

        Raises:
          DataError: if a file is not a table of integers of the expected width.
        """
        items = read_table(os.path.join(uri, ITEMS_FILE), ("item_id", "category_id", "count"))
        categories = read_table(os.path.join(uri, CATEGORIES_FILE), ("category_id", "count"))
        return cls(*items, *categories)

    def write(self, uri: str) -> None:
        """Writes ``items.tsv`` (item_id, category_id, count) and ``categories.tsv`` (category_id, count)."""
        write_table(os.path.join(uri, ITEMS_FILE), (self.item_ids, self.item_categories, self.item_counts))
        write_table(os.path.join(uri, CATEGORIES_FILE), (self.category_ids, self.category_counts))

    def to_bytes(self) -> bytes:
        """Packed, for the way between workers."""
        sizes = np.array([len(self.item_ids), len(self.category_ids)], dtype=np.int64)
        columns = (self.item_ids, self.item_categories, self.item_counts, self.category_ids, self.category_counts)
        return b"".join(np.ascontiguousarray(c, dtype="<i8").tobytes() for c in (sizes, *columns))

    @classmethod
    def from_bytes(cls, data: bytes) -> Catalogue:
        """Inverse of :meth:`to_bytes`; the arrays are views."""
        values = np.frombuffer(data, "<i8")
        items, categories = int(values[0]), int(values[1])
        return cls(*np.split(values[2:], np.cumsum([items, items, items, categories])))


def read_table(path: str, names: tuple[str, ...]) -> list[Int64Array]:
    """The columns of a table of whole numbers, as :func:`write_table` writes it.

    Raises:
      DataError: if it is something else, or has another number of columns.
    """
    with closing(open_file(path)) as file:
        data = file.read()
    if not data:
        return [np.empty(0, np.int64) for _ in names]
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(data),
            read_options=pyarrow.csv.ReadOptions(column_names=list(names)),
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t"),
            convert_options=pyarrow.csv.ConvertOptions(column_types={name: pa.int64() for name in names}),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: expected tab-separated integers {', '.join(names)}: {error}") from error
    return [column.to_numpy() for column in table.columns]


def write_table(path: str, columns: tuple[Int64Array, ...]) -> None:
    """Writes columns [n] separated by tabs, without a header."""
    table = pa.table([pa.array(column) for column in columns], names=[str(i) for i in range(len(columns))])
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer, pyarrow.csv.WriteOptions(include_header=False, delimiter="\t"))
    with closing(create_file(path)) as file:
        file.write(buffer.getvalue())

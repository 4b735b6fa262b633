"""How many events each item and each category had at the end of the log: what a served model looks up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ctr.components.counting import CountedField
from ctr.components.examples.catalogue import read_table, write_table
from ctr.models.arrays import Int64Array
from ctr.models.impression import PADDING_ID


class EventCounts(NamedTuple):
    """Of the ids of one field."""

    ids: Int64Array
    """[k], rising."""
    counts: Int64Array
    """[k, w] of each window."""

    @staticmethod
    def path(uri: str, field: CountedField) -> str:
        """The file of a field in a catalogue: tab-separated, an id and its counts a line."""
        return os.path.join(uri, f"{field}_events.tsv")

    @classmethod
    def read(cls, uri: str, field: CountedField, names: Sequence[str]) -> EventCounts:
        """Reads what :meth:`write` wrote; ``names`` are those of the counts.

        Raises:
          DataError: if the file is no table of an id and so many counts.
        """
        ids, *counts = read_table(cls.path(uri, field), (f"{field}_id", *names))
        return cls(ids, np.stack(counts, axis=1))

    def write(self, uri: str, field: CountedField) -> None:
        """Writes the file of a field; ids without any event are left out, as 0 is what an unknown id has."""
        some = self.counts.any(axis=1)
        ids, counts = self.ids[some], self.counts[some]
        if not ids.size:
            # A table that is served needs some line, and nothing has this id.
            ids, counts = np.full(1, PADDING_ID), np.zeros((1, self.counts.shape[1]), np.int64)
        write_table(self.path(uri, field), (ids, *counts.T))

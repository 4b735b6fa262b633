"""Counts of events where a model is served: of the end of the log, looked up by what a request carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import tensorflow as tf

from ctr.components.counting import CountedField, looked_up
from ctr.components.examples.event_counts import EventCounts
from ctr.models.impression import CANDIDATE_CATEGORY_ID, CANDIDATE_ITEM_ID

NOT_STORED: Final = -1
"""In the place of a count that an example does not have."""

_ID_OF: Final[dict[CountedField, str]] = {"item": CANDIDATE_ITEM_ID, "category": CANDIDATE_CATEGORY_ID}


class ServedCounts(tf.Module):
    """The looked-up features of candidates, a table for items and one for categories.

    Its files become assets of an export. It is TensorFlow's own operations, so that a server needs nothing beside it.

    Args:
      catalogue_uri: what ingest wrote beside the catalogue.
    """

    def __init__(self, catalogue_uri: str) -> None:
        super().__init__()
        self._features = looked_up()
        self.tables, self.counts = {}, {}
        for field, features in self._features.items():
            found = EventCounts.read(catalogue_uri, field, [feature.short for feature in features])
            rows = tf.lookup.TextFileInitializer(
                EventCounts.path(catalogue_uri, field),
                *(tf.int64, 0),
                *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
                delimiter="\t",
            )
            # Of an id that is not there, the last row.
            self.tables[field] = tf.lookup.StaticHashTable(rows, default_value=len(found.ids))
            # A constant would lie in the graph, which may have 2 GB.
            self.counts[field] = tf.Variable(np.pad(found.counts, ((0, 1), (0, 0))), trainable=False)

    @property
    def names(self) -> list[str]:
        """Of the features."""
        return [feature.name for features in self._features.values() for feature in features]

    def filled(
        self, request: Mapping[str, tf.RaggedTensor], stored: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.RaggedTensor]:
        """Features [B, N] of a request's candidates.

        Args:
          request: [B, N] int64, ``candidate_item_id`` and ``candidate_category_id``.
          stored: [B, N] of those features that come with the request, :data:`NOT_STORED` where they do not.
        """
        flat = {name: request[name].values for name in _ID_OF.values()}
        found = {}
        for name, counts in self(flat).items():
            if name in stored:
                given = tf.reshape(stored[name], [-1])
                counts = tf.where(given == NOT_STORED, counts, given)
            found[name] = request[CANDIDATE_ITEM_ID].with_values(counts)
        return found

    def __call__(self, candidates: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Features [n] int64 of candidates, of which ``candidate_item_id`` and ``candidate_category_id`` [n] int64 are
        given; 0 where an id had no event."""
        found: dict[str, tf.Tensor] = {}
        for field, features in self._features.items():
            counts = tf.gather(self.counts[field], self.tables[field].lookup(candidates[_ID_OF[field]]))
            found |= {feature.name: counts[:, place] for place, feature in enumerate(features)}
        return found

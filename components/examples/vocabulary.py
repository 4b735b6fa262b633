"""Vocabularies: which ids get an index of their own, and which index."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Final

import numpy as np

from ctr.components.examples.catalogue import Catalogue
from ctr.components.files import open_file
from ctr.components.settings import TransformConfig
from ctr.models.arrays import Array, Int64Array
from ctr.models.errors import DataError

ITEM_VOCABULARY: Final = "item_vocabulary"
CATEGORY_VOCABULARY: Final = "category_vocabulary"
"""Asset names in the transform graph; one id a line, line k (from 0) has index k + FIRST_KNOWN_INDEX."""


def vocabularies(catalogue: Catalogue, config: TransformConfig) -> dict[str, Array]:
    """Vocabulary name -> int64 ids, the most frequent in the train split first, ties by the smaller id.

    Raises:
      DataError: if no item or no category reaches its threshold.
    """
    # The catalogue is sorted that way already.
    items = catalogue.item_ids[catalogue.item_counts >= config.min_item_count][: config.max_items]
    categories = catalogue.category_ids[catalogue.category_counts >= config.min_category_count]
    for ids, what, fewest in (
        (items, "item", config.min_item_count),
        (categories, "category", config.min_category_count),
    ):
        if not len(ids):
            raise DataError(f"transform.min_{what}_count: no {what} has {fewest} events in the train split; lower it")
    return {ITEM_VOCABULARY: items, CATEGORY_VOCABULARY: categories}


def read_vocabulary(transform_graph: str, name: str) -> Int64Array:
    """The ids of one of the vocabularies of a transform graph, in their order."""
    with closing(open_file(os.path.join(transform_graph, "transform_fn", "assets", f"{name}.txt"))) as file:
        return np.array(file.read().split(), dtype=np.int64)


def vocabulary_size(transform_graph: str, name: str) -> int:
    """Of one of the vocabularies of a transform graph, by the address of that."""
    with closing(open_file(os.path.join(transform_graph, "transform_fn", "assets", f"{name}.txt"))) as file:
        return sum(1 for _ in file)

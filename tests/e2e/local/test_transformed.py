"""What Transform writes: each raw impression, and the indices of its ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from block_files import rows_of
from trained_run import Trained

from ctr.components.examples.catalogue import Catalogue
from ctr.models.impression import FEATURES, FIRST_KNOWN_INDEX, INDEX_OF, NEGATIVE_SET, SPLITS, UNKNOWN_INDEX


@pytest.mark.parametrize("split", SPLITS)
def test_impressions_keep_their_features_and_get_their_indices(trained: Trained, split: str) -> None:
    raw = trained.artifact("ImpressionGen", "examples") / f"Split-{split}"
    transformed = trained.artifact("ImpressionTransform", "transformed_examples") / f"Split-{split}"
    assert sorted(p.name.removesuffix(".gz") for p in raw.iterdir()) == sorted(p.name for p in transformed.iterdir())
    catalogue = Catalogue.read(str(trained.artifact("ImpressionGen", "catalogue")))
    config = trained.config.transform
    items = catalogue.item_ids[catalogue.item_counts >= config.min_item_count].tolist()
    categories = catalogue.category_ids[catalogue.category_counts >= config.min_category_count].tolist()
    index_of = {
        kind: {known: FIRST_KNOWN_INDEX + rank for rank, known in enumerate(ids)}
        for kind, ids in (("item", items), ("category", categories))
    }
    unknown = 0
    for shard in sorted(raw.iterdir()):
        rows = rows_of(transformed, shard.name.removesuffix(".gz"))
        assert rows
        for before, after in zip(_raw(shard), rows, strict=True):
            assert {name: after[name] for name in FEATURES} == before
        for row in rows[:: max(1, len(rows) // 50)]:
            for name, index_name in INDEX_OF.items():
                known = index_of["item" if "item" in name else "category"]
                expected = [known.get(id_, UNKNOWN_INDEX) for id_ in row[name]]
                assert row[index_name] == expected
                unknown += expected.count(UNKNOWN_INDEX)
    assert unknown, "nothing unknown was looked at"


def _raw(shard: Path) -> Iterator[dict[str, Any]]:
    """By protobuf, which none of the readers uses."""
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(str(shard), compression_type="GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        row: dict[str, Any] = {name: [*features[name].int64_list.value] for name in FEATURES}
        (row[NEGATIVE_SET],) = features[NEGATIVE_SET].bytes_list.value
        yield row

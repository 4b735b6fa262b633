"""What Transform writes: each raw impression as it was, and behind it the indices of its ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from trained_run import Trained

from ctr.components.examples.catalogue import Catalogue
from ctr.models.impression import FIRST_KNOWN_INDEX, INDEX_OF, SPLITS, UNKNOWN_INDEX


@pytest.mark.parametrize("split", SPLITS)
def test_impressions_keep_their_bytes_and_get_their_indices(trained: Trained, split: str) -> None:
    raw = trained.artifact("ImpressionGen", "examples") / f"Split-{split}"
    transformed = trained.artifact("ImpressionTransform", "transformed_examples") / f"Split-{split}"
    assert sorted(p.name for p in raw.iterdir()) == sorted(p.name for p in transformed.iterdir())
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
        pairs = list(zip(_records(shard), _records(transformed / shard.name), strict=True))
        assert pairs
        for before, after in pairs:
            assert after.startswith(before)
        for _, after in pairs[:: max(1, len(pairs) // 50)]:
            features = tf.train.Example.FromString(after).features.feature
            for name, index_name in INDEX_OF.items():
                known = index_of["item" if "item" in name else "category"]
                expected = [known.get(id_, UNKNOWN_INDEX) for id_ in features[name].int64_list.value]
                assert list(features[index_name].int64_list.value) == expected
                unknown += expected.count(UNKNOWN_INDEX)
    assert unknown, "nothing unknown was looked at"


def _records(shard: Path) -> list[bytes]:
    records = tf.data.TFRecordDataset(str(shard), compression_type="GZIP").as_numpy_iterator()
    return np.asarray(list(records), object).tolist()

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ctr.components.scoring.scored import Scored
from ctr.components.scoring.scored_shards import ScoredShard, joined, list_scored, scored_path
from ctr.models.errors import DataError

SCORED = Scored(
    users=np.array([5, 2**40, 5]),
    negative_set=np.array([2, 0, 2], np.int8),
    attributes={"item": np.array(["new", "seen", "new"]), "hour": np.array(["08", "23", "00"])},
    candidates=np.array([1, 3, 2]),
    labels=np.array([1, 0, 0, 1, 1, 0], np.int8),
    scores={"popularity": np.array([9, 8, np.inf, 0, -1, 1], np.float32), "model": np.linspace(0, 1, 6, dtype="f")},
)
SHARD = ScoredShard(SCORED, np.array([10, 20, 30]), {"blessed": "it is gone"})


def nothing() -> Scored:
    none = np.empty(0)
    return Scored(
        users=none.astype(np.int64),
        negative_set=none.astype(np.int8),
        attributes={name: none.astype(np.str_) for name in SCORED.attributes},
        candidates=none.astype(np.int64),
        labels=none.astype(np.int8),
        scores={name: none.astype(np.float32) for name in SCORED.scores},
    )


def assert_equal(one: Scored, other: Scored) -> None:
    for field in dataclasses.fields(Scored):
        np.testing.assert_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("scored", [SCORED, nothing()], ids=["some", "none"])
def test_what_is_read_is_what_was_written(tmp_path: Path, scored: Scored) -> None:
    path = scored_path(str(tmp_path), "gs://bucket/Split-eval/data_tfrecord-00001-of-00004.gz")
    assert path == str(tmp_path / "scored" / "data_tfrecord-00001-of-00004.parquet")
    dataclasses.replace(SHARD, scored=scored, timestamps=scored.users + 1).write(path, str(tmp_path))
    assert list_scored(str(tmp_path)) == [path]
    read = ScoredShard.read(path)
    assert_equal(read.scored, scored)
    assert {name: values.dtype for name, values in read.scored.scores.items()} == dict.fromkeys(
        SCORED.scores, np.dtype(np.float32)
    )
    np.testing.assert_array_equal(read.timestamps, scored.users + 1)
    assert read.not_scored == {"blessed": "it is gone"}


def test_shards_are_joined_in_their_order_and_keep_the_scorers_of_all() -> None:
    more = SHARD.with_scores({"blessed": np.zeros(6, np.float32)}, {})
    assert (more.not_scored, [*more.scored.scores]) == ({}, ["popularity", "model", "blessed"])
    both = joined([nothing(), more.scored, SCORED])
    assert [*both.scores] == ["popularity", "model"]
    assert both.users.tolist() == [5, 2**40, 5] * 2
    assert both.attributes["hour"].tolist() == ["08", "23", "00"] * 2
    assert_equal(joined([SCORED]), SCORED)


@pytest.mark.parametrize("content", [b"no parquet", b""])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"x.parquet: expected a shard of scored impressions, in Parquet: .+; delete"):
        ScoredShard.read(str(tmp_path / "x.parquet"))

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ctr.components.trainer.input_pipeline import read_batches, to_model_inputs
from ctr.models.impression import CANDIDATE_ITEM_ID, HISTORY_AGE, HISTORY_ITEM_ID, LABEL, MODEL_INPUTS, USER_ID


def ragged_features(lengths: list[int], candidates: list[int]) -> dict[str, tf.RaggedTensor]:
    return {
        name: tf.ragged.constant(
            [list(range(1, n + 1)) for n in (lengths if name.startswith("history") else candidates)], tf.int64
        )
        for name in MODEL_INPUTS
    }


def test_histories_keep_their_latest_events_and_are_padded_on_the_right() -> None:
    inputs = to_model_inputs(ragged_features([0, 2, 5], [1, 3, 2]), history_length=3)
    assert inputs[HISTORY_ITEM_ID].numpy().tolist() == [[0, 0, 0], [1, 2, 0], [3, 4, 5]]
    assert inputs[CANDIDATE_ITEM_ID].numpy().tolist() == [[1, 0, 0], [1, 2, 3], [1, 2, 0]]


def test_lists_of_different_lengths_are_refused_by_name() -> None:
    features = ragged_features([2, 2], [1, 1])
    features[HISTORY_AGE] = tf.ragged.constant([[1, 2], [1]], tf.int64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="history_age and history_item_id"):
        to_model_inputs(features, 3)


def write_examples(path: Path, first: int, count: int) -> None:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for k in range(first, first + count):
            values = {name: [k + 1] * (k % 3 if name.startswith("history") else 2) for name in MODEL_INPUTS}
            values[LABEL] = [1, 0]
            values[USER_ID] = [100 + k]
            feature = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=value)) for name, value in values.items()
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def test_every_impression_once_in_batches_of_one_shape(tmp_path: Path) -> None:
    write_examples(tmp_path / "a.gz", 0, 7)
    write_examples(tmp_path / "b.gz", 7, 6)
    files = [str(tmp_path / "b.gz"), str(tmp_path / "a.gz")]

    def items(**settings: int) -> list[int]:
        batches = list(read_batches(files, batch_size=4, history_length=2, **settings))
        assert all(x[HISTORY_ITEM_ID].shape == (4, 2) and y.shape == (4, 2) for x, y in batches)
        first = np.concatenate([x[CANDIDATE_ITEM_ID][:, 0].numpy() for x, _ in batches])
        assert (first[13:] == 0).all()
        users = np.concatenate([x[USER_ID][:, 0].numpy() for x, _ in batches])
        np.testing.assert_array_equal(users, np.where(first > 0, first + 99, 0))
        return first[first > 0].tolist()

    in_order = items()
    assert in_order == list(range(1, 14))
    shuffled = items(shuffle_buffer=100, seed=3)
    assert sorted(shuffled) == in_order
    assert shuffled != in_order
    assert items(limit=5) == [1, 2, 3, 4, 5]


def test_no_files_is_an_error() -> None:
    with pytest.raises(ValueError, match="no files"):
        read_batches([], batch_size=4, history_length=2)

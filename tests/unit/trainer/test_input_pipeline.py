from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from block_files import write_blocks

from ctr.components.examples import blocks
from ctr.components.trainer.input_pipeline import read_batches, to_model_inputs
from ctr.models.impression import CANDIDATE_ITEM_ID, HISTORY_AGE, HISTORY_ITEM_ID, LABEL, MODEL_INPUTS, USER_ID


def impressions(first: int, count: int) -> list[dict[str, list[int]]]:
    """Of an item, user and history each, 0 to 2 events and 2 candidates."""
    return [
        {
            name: [k + 1 if "behavior" not in name else 1] * (k % 3 if name.startswith("history") else 2)
            for name in MODEL_INPUTS
        }
        | {LABEL: [1, 0], USER_ID: [100 + k]}
        for k in range(first, first + count)
    ]


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


def test_every_impression_once_in_batches_of_one_shape(tmp_path: Path) -> None:
    files = [write_blocks(tmp_path / "b", impressions(7, 6), 3), write_blocks(tmp_path / "a", impressions(0, 7), 3)]

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
    assert items(limit=8, candidates=2) == in_order[:8]


def first_of(batches: tf.data.Dataset) -> list[int]:
    """Items of the first candidates, less padding."""
    items = np.concatenate([inputs[CANDIDATE_ITEM_ID][:, 0].numpy() for inputs, _ in batches])
    found: list[int] = items[items > 0].tolist()
    return found


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Four files of 1,500 impressions in blocks of 100."""
    folder = tmp_path_factory.mktemp("many")
    return [write_blocks(folder / f"{k}", impressions(1500 * k, 1500), 100) for k in range(4)]


def shuffled(files: list[str], seed: int, batch_size: int = 64, **settings: int) -> tf.data.Dataset:
    return read_batches(
        files, batch_size=batch_size, history_length=2, seed=seed, **{"shuffle_buffer": 5000, **settings}
    )


def test_the_order_follows_from_the_seed_alone(many: list[str]) -> None:
    one = shuffled(many, 3)
    first = first_of(one)

    # A training that goes on, or begins again without a compiler, passes over them anew.
    assert first_of(one) == first == first_of(shuffled(many[::-1], 3))
    other = first_of(shuffled(many, 4))
    assert sorted(first) == sorted(other) == list(range(1, 6001))
    assert first != other


def test_what_stood_together_does_not_stay_together(many: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten blocks a window: a sixth of the data.
    monkeypatch.setattr(blocks, "ROWS", 100)
    order = np.array(first_of(shuffled(many, 3, shuffle_buffer=1000)))
    of_block = order // 100
    neighbours = np.mean(of_block[1:] == of_block[:-1])
    files = np.array([len({*(batch // 1500)}) for batch in np.array_split(order, 90)])

    # In a window of ten blocks one in ten has a neighbour of its own; as written, 99 of 100 have.
    assert neighbours < 0.13
    assert np.corrcoef(np.arange(order.size), order)[0, 1] < 0.3
    assert files.mean() > 2.5
    # Random numbers fall and rise alike often.
    assert np.mean(np.diff(order) > 0) == pytest.approx(0.5, abs=0.03)


def test_windows_that_no_batch_divides_lose_nothing(many: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ROWS", 100)
    for batch_size in (7, 999, 7001):
        batches = list(shuffled(many, 1, batch_size, shuffle_buffer=700))
        assert {inputs[CANDIDATE_ITEM_ID].shape for inputs, _ in batches} == {(batch_size, 2)}
        assert len(batches) == -(-6000 // batch_size)
        assert sorted(first_of(batches)) == list(range(1, 6001))
        assert all((labels[:, 0].numpy() == (inputs[USER_ID][:, 0].numpy() > 0)).all() for inputs, labels in batches)


def test_shapes_are_static_where_the_candidates_are_told(many: list[str]) -> None:
    inputs, labels = shuffled(many, 1, candidates=2).element_spec
    assert {tuple(spec.shape) for spec in inputs.values()} == {(64, 2), (64, 1)}
    assert tuple(labels.shape) == (64, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="an impression has more than 1 candidates"):
        next(iter(shuffled(many, 1, candidates=1)))


def test_no_files_is_an_error() -> None:
    with pytest.raises(ValueError, match="no files"):
        read_batches([], batch_size=4, history_length=2)

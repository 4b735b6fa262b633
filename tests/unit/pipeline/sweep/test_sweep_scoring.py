from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from block_files import write_blocks

from ctr.components.scoring.pairs import Pairs
from ctr.models.contract import Ranker
from ctr.models.impression import (
    CANDIDATE_ITEM_ID,
    CONTEMPORANEOUS,
    HISTORY_ITEM_ID,
    INDEX_OF,
    LABEL,
    NEGATIVE_SET,
    REQUEST_FEATURES,
    UNIFORM,
    USER_ID,
)
from ctr.models.model_config import ModelConfig
from ctr.models.registry import build_model
from ctr.pipeline.sweep.scoring import metrics, score, score_with_shuffled_histories

LENGTH = 4


def _row(user: int, negative_set: str, history: list[int], candidates: list[int]) -> dict[str, Any]:
    row: dict[str, Any] = {USER_ID: [user], NEGATIVE_SET: negative_set.encode()}
    row[LABEL] = [1] + [0] * (len(candidates) - 1)
    for name in REQUEST_FEATURES:
        values = history if name.startswith("history") else candidates
        row[name] = [1 + value % 4 for value in values] if "behavior" in name or "category" in name else values
        if name in INDEX_OF:
            row[INDEX_OF[name]] = row[name]
    return row


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Users 1..20, two impressions each, the item of a user's history being its id."""
    paths = []
    for number in range(2):
        rows = []
        for user in range(1 + number, 21, 2):
            rows.append(_row(user, UNIFORM, [user] * 3, [5, 6]))
            rows.append(_row(user, CONTEMPORANEOUS, [user] * 6, [7, 8, 9]))
        paths.append(write_blocks(tmp_path / f"part-{number}", rows))
    return paths


@pytest.fixture
def model() -> Ranker:
    return build_model(ModelConfig(name="dnn", embedding_dim=4), 30, 10, history_length=LENGTH)


def test_every_pair_is_scored_once(files: list[str], model: Ranker) -> None:
    sets = score(model, files, LENGTH)
    assert {name: metrics(pairs).pairs for name, pairs in sets.items()} == {UNIFORM: 40, CONTEMPORANEOUS: 60}
    for pairs in sets.values():
        assert sorted(set(pairs.users.tolist())) == list(range(1, 21))
        assert pairs.labels.sum() == pairs.impressions == 20


def test_auc_on_new_items_leaves_out_impressions_whose_positive_stands_in_the_history(tmp_path: Path) -> None:
    """Scores rise with the item: a seen positive below its negative, and two new ones, one of them above."""
    rows = [([9, 3], [3, 8]), ([9, 3], [7, 6]), ([], [5, 6])]
    file = write_blocks(tmp_path / "eval", (_row(user, UNIFORM, *lists) for user, lists in enumerate(rows, start=1)))

    class ItemId(tf.Module):
        def __call__(self, inputs: dict[str, tf.Tensor], training: bool) -> object:
            return type("Output", (), {"logits": tf.cast(inputs[CANDIDATE_ITEM_ID], tf.float32)})

    pairs = score(ItemId(), [file], LENGTH)[UNIFORM]
    assert pairs.new.tolist() == [False, False, True, True, True, True]
    measured = metrics(pairs)
    # Of the positives 3, 7, 5 against the negatives 8, 6, 6, and of 7, 5 against 6, 6.
    assert measured.auc == pytest.approx(2 / 9)
    assert measured.auc_new == pytest.approx(1 / 2)


def test_a_pairs_score_is_the_models_own(files: list[str], model: Ranker) -> None:
    pairs = score(model, files, LENGTH)[UNIFORM]
    row = np.flatnonzero(pairs.users == 3)
    example = _row(3, UNIFORM, [3] * 3, [5, 6])
    inputs = {name: tf.constant([example[name]], tf.int64) for name in (*REQUEST_FEATURES, *INDEX_OF.values())}
    np.testing.assert_allclose(pairs.predictions[row], model(inputs).logits[0].numpy(), atol=1e-6)


def test_shuffled_histories_are_those_of_other_users(files: list[str]) -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Spy(tf.Module):
        def __call__(self, inputs: dict[str, tf.Tensor], training: bool) -> object:
            def note(history: np.ndarray, candidates: np.ndarray) -> np.float32:
                seen.append((history, candidates))
                return np.float32(0)

            zero = tf.numpy_function(note, [inputs[HISTORY_ITEM_ID], inputs[CANDIDATE_ITEM_ID]], tf.float32)
            scores = tf.cast(inputs[CANDIDATE_ITEM_ID], tf.float32) + zero
            return type("Output", (), {"logits": tf.ensure_shape(scores, [None, None])})

    pairs = score_with_shuffled_histories(Spy(), files, LENGTH, CONTEMPORANEOUS)
    owners = np.concatenate([history[:, 0] for history, _ in seen])
    users = pairs.users.reshape(-1, 3)[:, 0]
    assert len(users) == 20
    assert (owners != users).all()
    assert sorted(owners) == sorted(users)


def test_log_loss_is_that_of_the_probability() -> None:
    logit = np.array([0.3, -2.0, 40.0, -40.0], np.float32)
    label = np.array([1, 0, 1, 0])
    pairs = Pairs(label.astype(np.int8), logit, np.array([1, 1, 2, 2]), np.array([True] * 4), np.array([2, 2]))
    probability = 1 / (1 + np.exp(-logit.astype(np.float64)))
    expected = -np.log(np.where(label > 0, probability, 1 - probability)).mean()
    assert metrics(pairs).log_loss == pytest.approx(expected, abs=1e-9)
    assert metrics(pairs).gauc == 1.0

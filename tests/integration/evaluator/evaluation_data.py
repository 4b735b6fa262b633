"""A model and impressions whose metrics a test can work out by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from ctr.components.dataset import PUBLIC_LOG
from ctr.components.examples.shards import shard_path
from ctr.components.scoring.baselines import BASELINES
from ctr.components.scoring.scored import Scored
from ctr.components.scoring.scored_shards import ScoredShard, scored_path
from ctr.components.scoring.slices import attributes
from ctr.models.impression import NEGATIVE_SETS

Row: TypeAlias = tuple[str, bool, dict[str, list[int]]]
"""Negative set, whether the positive is new, and the features."""
TIME = 1_512_086_400
"""2017-12-01 08:00 in Asia/Shanghai."""


class ScoreFromItemId(tf.Module):
    """Probability = offset + candidate_item_id / divisor, so that a test knows every score."""

    def __init__(self, divisor: float, offset: float) -> None:
        super().__init__()
        self._divisor = divisor
        self._offset = offset

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {"candidate_item_id": tf.io.RaggedFeature(tf.int64)}
        items = tf.io.parse_example(examples, spec)["candidate_item_id"].to_tensor()
        probability = self._offset + tf.cast(items, tf.float32) / self._divisor
        return {"probability": probability, "logit": tf.math.log(probability / (1 - probability))}


@dataclass(frozen=True)
class Pairs:
    """The pairs of written impressions, flat, with the scores that a divisor of 1000 gives."""

    user: np.ndarray
    negative_set: np.ndarray
    label: np.ndarray
    score: np.ndarray
    new: np.ndarray
    """Whether the positive of the pair's impression does not stand in its history."""


def save_model(folder: Path, divisor: float = 1000.0, offset: float = 0.0) -> str:
    module = ScoreFromItemId(divisor, offset)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return str(folder)


def write_impressions(
    folder: Path,
    count: int,
    seed: int,
    sets: Sequence[str] = NEGATIVE_SETS,
    only_positives: Sequence[str] = (),
    negatives_below: int = 800,
    positives_from: int = 200,
) -> Pairs:
    """Two shards of impressions of 1 + 2 candidates of 40 users, the positives scoring higher on average, and the
    columns that Baselines makes of them: ``examples`` and ``baselines`` in the folder.

    Histories have 0 to 5 events; in a quarter of the impressions the positive is one of them, and a negative in some.
    The baselines score at random.
    """
    rng = np.random.default_rng(seed)
    pairs = []
    shards: tuple[list[Row], list[Row]] = ([], [])
    for i in range(count):
        user, negative_set = int(rng.integers(1, 41)), sets[i % len(sets)]
        label = np.array([1, 0, 0]) if negative_set not in only_positives else np.array([1, 1, 1])
        item = np.where(label == 1, rng.integers(positives_from, 999, 3), rng.integers(1, negatives_below, 3))
        history = rng.integers(1, 999, i % 5).tolist()
        # Of each set, however many there are.
        if i // len(sets) % 4 == 0:
            history.append(int(item[0]))
        elif i // len(sets) % 7 == 0:
            history.append(int(item[1]))
        new = int(item[0]) not in history
        row = {
            "user_id": [user],
            "timestamp": [TIME + i],
            "history_item_id": history,
            "candidate_item_id": item.tolist(),
            "label": label.tolist(),
        }
        shards[i % 2].append((negative_set, new, row))
        pairs += [
            (user, negative_set, y, np.float32(s) / np.float32(1000), new) for y, s in zip(label, item, strict=True)
        ]
    for number, rows in enumerate(shards):
        write_shard(folder, rows, number, rng)
    users, names, labels, scores, news = zip(*pairs, strict=True)
    return Pairs(
        np.array(users, np.int64), np.array(names), np.array(labels), np.array(scores, np.float32), np.array(news)
    )


def write_shard(folder: Path, rows: list[Row], number: int, rng: Any) -> None:
    path = shard_path(str(folder / "examples"), "eval", number, 2)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(path, options="GZIP") as writer:
        for negative_set, _, row in rows:
            example = tf.train.Example()
            example.features.feature["negative_set"].bytes_list.value.append(negative_set.encode())
            for name, values in row.items():
                example.features.feature[name].int64_list.value.extend(values)
            writer.write(example.SerializeToString())
    names, new, of_rows = zip(*rows, strict=True)
    columns = {name: [row[name] for row in of_rows] for name in of_rows[0]}
    times = np.array(columns["timestamp"]).ravel()
    labels = np.concatenate(columns["label"]).astype(np.int8)
    scored = Scored(
        users=np.array(columns["user_id"]).ravel(),
        negative_set=np.array([NEGATIVE_SETS.index(name) for name in names], np.int8),
        attributes=attributes(
            zone=PUBLIC_LOG.zone,
            timestamps=times,
            history_length=np.array([len(row) for row in columns["history_item_id"]]),
            target_behavior=np.ones(len(rows), np.int64),
            item_seen=~np.array(new),
            category_seen=~np.array(new),
            target_count=np.ones(len(rows), np.int64),
            bounds=np.arange(9),
            user_known=np.full(len(rows), True),
            features={},
        ),
        candidates=np.array([len(row) for row in columns["label"]]),
        labels=labels,
        scores={name: rng.random(labels.size, np.float32) for name in BASELINES},
    )
    ScoredShard(scored, times).write(scored_path(str(folder / "baselines"), path), str(folder / "baselines"))

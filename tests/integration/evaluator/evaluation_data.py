"""A model and impressions whose metrics a test can work out by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr.models.impression import NEGATIVE_SETS


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
    path: Path,
    count: int,
    seed: int,
    sets: Sequence[str] = NEGATIVE_SETS,
    only_positives: Sequence[str] = (),
    negatives_below: int = 800,
    positives_from: int = 200,
) -> Pairs:
    """Impressions of 1 + 2 candidates of 20 users, the positives scoring higher on average.

    Histories have 0 to 5 events; in a quarter of the impressions the positive is one of them, and a negative in some.
    """
    rng = np.random.default_rng(seed)
    pairs = []
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for i in range(count):
            user, negative_set = int(rng.integers(1, 21)), sets[i % len(sets)]
            label = np.array([1, 0, 0]) if negative_set not in only_positives else np.array([1, 1, 1])
            item = np.where(label == 1, rng.integers(positives_from, 999, 3), rng.integers(1, negatives_below, 3))
            history = rng.integers(1, 999, i % 5).tolist()
            if i // len(sets) % 4 == 0:
                history.append(int(item[0]))
            elif i % 7 == 0:
                history.append(int(item[1]))
            new = not set(history) & set(item[label == 1].tolist())
            example = tf.train.Example()
            feature = example.features.feature
            feature["user_id"].int64_list.value.append(user)
            feature["negative_set"].bytes_list.value.append(negative_set.encode())
            feature["history_item_id"].int64_list.value.extend(history)
            feature["candidate_item_id"].int64_list.value.extend(item.tolist())
            feature["label"].int64_list.value.extend(label.tolist())
            writer.write(example.SerializeToString())
            pairs += [
                (user, negative_set, y, np.float32(s) / np.float32(1000), new) for y, s in zip(label, item, strict=True)
            ]
    users, names, labels, scores, news = zip(*pairs, strict=True)
    return Pairs(
        np.array(users, np.int64), np.array(names), np.array(labels), np.array(scores, np.float32), np.array(news)
    )

"""A catalogue that is small enough for the whole softmax, and a table of logits to train on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tensorflow as tf

from ctr.models.impression import CANDIDATE_CATEGORY_ID, CANDIDATE_ITEM_ID, INDEX_OF
from ctr.models.losses import training_loss
from ctr.models.negatives import StoredNegatives
from ctr.models.samplers.base import Sampled, Sampler, TrainingWindow
from ctr.models.samplers.hashing import pair_key
from ctr.models.samplers.registry import SamplerContext, build_sampler
from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig

ITEMS: Final = 100
CONTEXTS: Final = 2
FIRST_ITEM: Final = 1000
USERS_FROM: Final = 50_000
"""A user is one whose only item is the target, so that the mask of the user's items is exact."""

Tamper = Callable[[tf.Tensor], tf.Tensor]


def truth() -> np.ndarray:
    """[CONTEXTS, ITEMS] P(item | context): popular items by Zipf's law, and a taste of each context."""
    rng = np.random.default_rng(1)
    logits = -np.log(np.arange(1, ITEMS + 1)) + rng.normal(0, 1.0, (CONTEXTS, ITEMS))
    weight = np.exp(logits)
    return weight / weight.sum(axis=1, keepdims=True)


class World:
    """Batches of impressions drawn from the truth; contexts are equally frequent."""

    def __init__(self, steps: int, batch: int, uniform: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.batch = batch
        self.context = rng.integers(0, CONTEXTS, (steps, batch))
        cumulative = np.cumsum(truth(), axis=1)
        drawn = rng.random((steps, batch))
        self.item = np.empty((steps, batch), np.int64)
        for context in range(CONTEXTS):
            rows = self.context == context
            self.item[rows] = np.minimum(np.searchsorted(cumulative[context], drawn[rows]), ITEMS - 1)
        # Uniform among the others, as ingest draws them.
        self.uniform = (self.item[..., None] + rng.integers(1, ITEMS, (steps, batch, uniform))) % ITEMS

    def tensors(self) -> tf.data.Dataset:
        candidates = np.concatenate([self.item[..., None], self.uniform], axis=2) + FIRST_ITEM
        return tf.data.Dataset.from_tensor_slices((self.context, candidates))


def window() -> TrainingWindow:
    """The true frequencies as counts of a long window."""
    items = tf.range(FIRST_ITEM, FIRST_ITEM + ITEMS, dtype=tf.int64)
    return TrainingWindow(
        catalogue_size=ITEMS,
        item_ids=items.numpy(),
        item_counts=np.round(truth().mean(axis=0) * 1e9).astype(np.int64),
        own_keys=np.sort(pair_key(items + USERS_FROM, items).numpy()),
    )


def sampler_of(settings: dict[str, Any], batch: int, uniform: int) -> Sampler:
    return build_sampler(
        SamplerContext(
            SamplerConfig.model_validate(settings),
            window=window(),
            # More than ingest would store.
            stored=StoredNegatives.model_construct(uniform=uniform, same_category=0, contemporaneous=0),
            batch_size=batch,
            seed=5,
        )
    )


def impression_of(candidates: tf.Tensor) -> dict[str, tf.Tensor]:
    features = dict.fromkeys((CANDIDATE_ITEM_ID, CANDIDATE_CATEGORY_ID), candidates)
    return {**features, **{INDEX_OF[name]: value for name, value in features.items()}}


def draw(sampler: Sampler, table: tf.Tensor, context: tf.Tensor, candidates: tf.Tensor) -> tuple[tf.Tensor, Sampled]:
    """The logits and candidates of one step."""

    def score(features: Any) -> tf.Tensor:
        return tf.gather_nd(
            table, tf.stack([context[:, None] + tf.zeros_like(features[CANDIDATE_ITEM_ID]), column(features)], axis=-1)
        )

    def column(features: Any) -> tf.Tensor:
        return features[CANDIDATE_ITEM_ID] - FIRST_ITEM

    labels = tf.one_hot(tf.zeros_like(context), candidates.shape[1])
    drawn = sampler.sample(impression_of(candidates), labels, candidates[:, 0] + USERS_FROM, score)
    return score(drawn.features), drawn


def gradient(settings: dict[str, Any], loss: LossConfig, at: np.ndarray, world: World) -> np.ndarray:
    """[CONTEXTS, ITEMS] mean gradient of the sampled loss at a table of logits, over many draws."""
    table = tf.Variable(at, dtype=tf.float32)
    sampler = sampler_of(settings, world.batch, world.uniform.shape[-1])

    @tf.function
    def mean_slope(batches: tf.data.Dataset) -> tf.Tensor:
        total = tf.zeros_like(table)
        for context, candidates in batches:
            with tf.GradientTape() as tape:
                logits, drawn = draw(sampler, tf.convert_to_tensor(table), context, candidates)
                value, count = training_loss(loss, logits, drawn)
                mean = value / count
            total += tape.gradient(mean, table)
        return total / len(world.item)

    return mean_slope(world.tensors()).numpy()


def full_gradient(at: np.ndarray, world: World) -> np.ndarray:
    """That of the whole softmax on the same rows."""
    probability = np.exp(at) / np.exp(at).sum(axis=1, keepdims=True)
    result = np.zeros_like(at)
    for context in range(CONTEXTS):
        rows = world.context == context
        result[context] = rows.mean() * probability[context]
        result[context] -= np.bincount(world.item[rows], minlength=ITEMS) / rows.size
    return result


def train(settings: dict[str, Any], loss: LossConfig, world: World, tamper: Tamper = tf.identity) -> np.ndarray:
    """[CONTEXTS, ITEMS] logits after training from 0 with a step size that falls to 0."""
    table = tf.Variable(tf.zeros([CONTEXTS, ITEMS]))
    sampler = sampler_of(settings, world.batch, world.uniform.shape[-1])
    moments = [tf.Variable(tf.zeros_like(table)) for _ in range(2)]

    @tf.function
    def steps(batches: tf.data.Dataset) -> None:
        for index, (context, candidates) in batches.enumerate():
            number = tf.cast(index, tf.float32)
            rate = 0.1 * (1 - number / len(world.item)) ** 1.5
            with tf.GradientTape() as tape:
                logits, drawn = draw(sampler, tf.convert_to_tensor(table), context, candidates)
                if drawn.log_q is not None:
                    drawn = drawn._replace(log_q=tamper(drawn.log_q))
                value, count = training_loss(loss, logits, drawn)
                mean = value / count
            slope = tape.gradient(mean, table)
            moments[0].assign(0.9 * moments[0] + 0.1 * slope)
            moments[1].assign(0.99 * moments[1] + 0.01 * slope**2)
            unbiased = moments[0] / (1 - 0.9 ** (number + 1)), moments[1] / (1 - 0.99 ** (number + 1))
            table.assign_sub(rate * unbiased[0] / (tf.sqrt(unbiased[1]) + 1e-8))

    steps(world.tensors())
    return table.numpy()


def order_kept(logits: np.ndarray) -> float:
    """Spearman's correlation with the truth, the mean over contexts."""
    ranks = [np.argsort(np.argsort(values, axis=1), axis=1) for values in (logits, truth())]
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*ranks, strict=True)]))


def error(logits: np.ndarray) -> float:
    """Mean absolute error in nats, weighted by how often an item is chosen; a constant a context is free."""
    p = truth()
    difference = logits - np.log(p)
    difference -= (p * difference).sum(axis=1, keepdims=True)
    return float((p * np.abs(difference)).sum(axis=1).mean())

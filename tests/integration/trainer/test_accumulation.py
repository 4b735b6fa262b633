"""Gradients of parts, however few impressions there are, add up to those of the batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_process import BATCH, RANDOM, SAMPLERS, batches, sampler_of

from ctr.components.trainer.accumulation import AccumulatingStep, _filled
from ctr.components.trainer.step import Batch, ReplicaStep
from ctr.models.model_config import ModelConfig
from ctr.models.optimizers import LazyAdam
from ctr.models.registry import build_model
from ctr.models.samplers.base import Sampler
from ctr.models.samplers.sampler_config import LossConfig

PARTS = 8


def step_of(sampler: Sampler, *, plain: bool, parts: int = 1) -> ReplicaStep:
    keras.utils.set_random_seed(1)
    # Neither draws nor statistics of a batch, which a part would have of its own.
    whole = {"activation": "relu", "item_unknown_rate": 0.0} if plain else {}
    config = ModelConfig.model_validate({"name": "din", "embedding_dim": 4, "hidden_units": [4], **whole})
    model = build_model(config, 11, 10, history_length=4)
    loss = LossConfig(name="pointwise" if plain else "sampled_softmax")
    optimizer = LazyAdam(1e-2)
    if parts > 1:
        return AccumulatingStep(parts, model, sampler, loss, optimizer, None, "off")
    return ReplicaStep(model, sampler, loss, optimizer, None, "off")


def share(rows: int, real: int) -> Batch:
    """What a device may be given of the last batch of an epoch."""
    filled = next(iter(batches(rows=real or 1, batch_size=BATCH)))
    return tf.nest.map_structure(lambda x: x[:rows] if real else tf.zeros_like(x[:rows]), filled)


@pytest.mark.parametrize(("rows", "real"), [(20, 20), (20, 3), (5, 5), (5, 2), (1, 1), (3, 0), (0, 0)])
def test_few_impressions_have_the_gradients_of_the_whole_batch(rows: int, real: int) -> None:
    batch = share(rows, real)
    expected, sums = step_of(sampler_of(RANDOM), plain=True).gradients(batch)
    gradients, of_parts = step_of(sampler_of(RANDOM), plain=True, parts=PARTS).gradients(batch)
    np.testing.assert_allclose(of_parts, sums, rtol=1e-5)
    assert sums[2] == real
    for one, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(one), tf.convert_to_tensor(other), atol=1e-6)


@pytest.mark.parametrize("sampler", ["random", "in_batch"])
def test_parts_without_an_impression_do_no_harm(sampler: str) -> None:
    # Dice takes its statistics from a part, and the columns of a batch come from its rows.
    drawn_by = sampler_of(RANDOM if sampler == "random" else SAMPLERS[sampler])
    step = step_of(drawn_by, plain=False, parts=PARTS)
    gradients, sums = step.gradients(share(26, 9))
    assert np.isfinite(sums).all()
    assert sums[2] == 9
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9])
def test_parts_are_equally_large_however_many_impressions_a_device_is_given(rows: int) -> None:
    ids = share(rows, rows)[0]["history_item_id"]
    signature = [tf.TensorSpec([None, 6], tf.int64)]
    unknown = tf.function(lambda x: _filled(({"ids": x}, x), PARTS), input_signature=signature)
    for (values, labels), size in (unknown(ids), _filled(({"ids": ids}, ids), PARTS)):
        assert size == max(1, -(-rows // PARTS))
        assert values["ids"].shape == labels.shape == (size * PARTS, 6)
        np.testing.assert_array_equal(labels[:rows], ids)
        assert not tf.reduce_any(labels[rows:] != 0)

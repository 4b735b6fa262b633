"""Training in half precision, through the loop that the pipeline uses."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_process import RANDOM, batches, sampler_of

from ctr.components.trainer.fit import TrainingDiverged, TrainingLoop
from ctr.models.contract import Ranker
from ctr.models.loss_scale import FIRST_SCALE, SMALLEST_SCALE
from ctr.models.model_config import ModelConfig
from ctr.models.registry import build_model
from ctr.models.samplers.sampler_config import LossConfig


def model_of(name: str, policy: str) -> Ranker:
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    try:
        return build_model(ModelConfig(name=name, embedding_dim=4), 10, 10, history_length=4)
    finally:
        keras.config.set_dtype_policy("float32")


def trainer_of(model: Ranker, learning_rate: float = 1e-2, row_decay: float = 0.0) -> TrainingLoop:
    strategy = tf.distribute.get_strategy()
    return TrainingLoop(model, strategy, sampler_of(RANDOM), LossConfig(), learning_rate, row_decay)


# That all models compute in bfloat16, forwards and backwards, is in their unit tests, and that all learn in float16 in
# those of a training that goes on; here it is the loop, and Keras' recurrence in it.
@pytest.mark.parametrize("name", ["dnn", "lstm"])
def test_models_learn_in_bfloat16(name: str) -> None:
    model = model_of(name, "mixed_bfloat16")
    data = batches(rows=128, batch_size=32)
    trainer = trainer_of(model, row_decay=1e-3)
    losses = [trainer.train_epoch(data)[0] for _ in range(4)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(np.isfinite(weight).all() and weight.dtype == np.float32 for weight in model.get_weights())
    # Validation is traced apart, and what it does with logits does not depend on the model.
    if name == "dnn":
        loss, auc = trainer.evaluate(data)
        assert np.isfinite(loss)
        assert 0.5 < auc <= 1


def test_an_overflow_is_survived_and_answered_by_a_smaller_scale() -> None:
    data = batches(rows=64, batch_size=32)
    trainer = trainer_of(model_of("dnn", "mixed_float16"))
    assert trainer.loss_scale is not None
    updated = [*trainer.model.trainable_variables, *trainer.optimizer.variables]
    before = [np.asarray(variable) for variable in updated]
    # A scale that no gradient of this model can bear in float16.
    trainer.loss_scale.scale.assign(2.0**40)
    first, _ = trainer.train_epoch(data)
    assert trainer.loss_scale.scale.numpy() == 2.0**38
    for old, new in zip(before, updated, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
    for _ in range(15):
        last, _ = trainer.train_epoch(data)
    assert trainer.loss_scale.scale.numpy() < 2.0**34
    assert last < first
    assert all(np.isfinite(weight).all() for weight in trainer.model.get_weights())


def test_gradients_that_no_scale_helps_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(model_of("dnn", "mixed_float16"))
    assert trainer.loss_scale is not None
    trainer.loss_scale.scale.assign(SMALLEST_SCALE)
    # A loss as finite as ever, whose gradients float16 cannot hold.
    monkeypatch.setattr(trainer.loss_scale, "scaled", lambda loss: loss * 2.0**40)
    data = batches(rows=64, batch_size=32)
    with pytest.raises(TrainingDiverged, match="after 64 impressions the gradients are too large for float16"):
        trainer.train_epoch(data)


def test_only_float16_needs_a_scale() -> None:
    for policy, needed in (("float32", False), ("mixed_bfloat16", False), ("mixed_float16", True)):
        trainer = trainer_of(model_of("dnn", policy))
        assert (trainer.loss_scale is not None) is needed
        if needed:
            assert trainer.loss_scale is not None
            assert trainer.loss_scale.scale.numpy() == FIRST_SCALE

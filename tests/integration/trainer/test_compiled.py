"""A step that XLA compiles is the step that it would have been, and what cannot be compiled trains without."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from declared_impressions import declared
from training_process import RANDOM, SAMPLERS, batches, sampler_of

from ctr.components.settings import TrainingConfig
from ctr.components.trainer import train as training
from ctr.components.trainer.fit import TrainingLoop
from ctr.components.trainer.step import Compile, NotCompiled
from ctr.components.trainer.strategy import training_strategy
from ctr.models.dnn import DNN
from ctr.models.impression import CANDIDATE_ITEM_ID, CANDIDATE_ITEM_INDEX
from ctr.models.layers.embedding import EmbeddedImpression
from ctr.models.model_config import ModelConfig
from ctr.models.registry import MODELS, build_model
from ctr.models.samplers.registry import SAMPLERS as REGISTERED
from ctr.models.samplers.sampler_config import LossConfig

ITEMS = 500
ONE_DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")
"""As a GPU trains. Its batches have forgotten how many impressions they are."""


def distinct_candidates() -> tf.data.Dataset:
    """Five batches, the last one partly padding. No item is a candidate twice: among equal scores the order is not
    defined, and so not which of them is among the hardest."""

    def renumber(number: tf.Tensor, batch: Any) -> Any:
        inputs, labels = batch
        ids = 1 + number * 96 + tf.reshape(tf.range(96, dtype=tf.int64), [32, 3])
        ids = tf.where(inputs[CANDIDATE_ITEM_ID] > 0, ids, 0)
        return {**inputs, CANDIDATE_ITEM_ID: ids, CANDIDATE_ITEM_INDEX: tf.where(ids > 0, ids + 1, 0)}, labels

    return batches(rows=150, batch_size=32).enumerate().map(renumber)


def trainer_of(model: str, sampler: str, policy: str, compile: Compile, kind: type[DNN] | None = None) -> TrainingLoop:
    keras.utils.set_random_seed(1)
    settings = {"name": model, "dropout": 0.2, "embedding_dim": 4, "hidden_units": [4], "caser": {"events": 4}}
    # Items treated as unknown would have equal scores again.
    settings["item_unknown_rate"] = 0.0 if sampler == "hard" else 0.2
    config = ModelConfig.model_validate(settings)
    keras.config.set_dtype_policy(policy)
    try:
        with ONE_DEVICE.scope():
            ranker = (kind or (lambda *sizes: build_model(*sizes)))(config, ITEMS, 10, 4)
            drawn_by = sampler_of(RANDOM if sampler == "random" else SAMPLERS[sampler])
    finally:
        keras.config.set_dtype_policy("float32")
    loss = LossConfig(name="pointwise" if sampler == "random" else "sampled_softmax")
    return TrainingLoop(ranker, ONE_DEVICE, drawn_by, loss, 1e-2, row_decay=1e-3, compile=compile)


# Each model, each sampler and each precision; to compile a step takes some seconds.
CASES = [
    ("dnn", "streaming_frequency", "float32"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("din", "hard", "float32"),
            ("dien", "in_batch", "float32"),
            ("bert4rec", "random", "float32"),
            ("transformer4rec", "mixed", "mixed_bfloat16"),
            ("caser", "random", "float32"),
            ("gru4rec", "random", "mixed_float16"),
            ("lstm", "random", "float32"),
            ("rnn", "random", "float32"),
        )
    ),
]


def test_every_model_sampler_and_precision_is_among_the_cases() -> None:
    cases = [getattr(case, "values", case) for case in CASES]
    models, samplers, policies = (set(column) for column in zip(*cases, strict=True))
    assert models == set(MODELS)
    assert samplers == set(REGISTERED)
    assert policies == {"float32", "mixed_float16", "mixed_bfloat16"}


@pytest.fixture
def declared_of_dnn(model: str) -> Iterator[None]:
    """Declared features, which look the same to all models, and of each kind some."""
    with declared() if model == "dnn" else nullcontext():
        yield


@pytest.mark.usefixtures("declared_of_dnn")
@pytest.mark.parametrize(("model", "sampler", "policy"), CASES)
def test_a_compiled_training_is_the_plain_one(model: str, sampler: str, policy: str) -> None:
    data = distinct_candidates()
    assert ("device_code" in data.element_spec[0]) == (model == "dnn")
    plain, compiled = (trainer_of(model, sampler, policy, compile) for compile in ("off", "on"))
    losses = [[trainer.train_epoch(data)[0] for _ in range(2)] for trainer in (plain, compiled)]
    judged = [trainer.evaluate(data) for trainer in (plain, compiled)]
    assert compiled.step.compiles
    assert not plain.step.compiles
    # bfloat16 has eight bits of mantissa.
    close = {"float32": 1e-5, "mixed_float16": 5e-3, "mixed_bfloat16": 1e-2}[policy]
    assert losses[1] == pytest.approx(losses[0], rel=close)
    assert judged[1] == pytest.approx(judged[0], rel=max(close, 1e-3))
    for ours, theirs, variable in zip(
        compiled.model.get_weights(), plain.model.get_weights(), plain.model.weights, strict=True
    ):
        # A softmax does not see a bias of all logits: its gradient is rounding error, which Adam makes steps of.
        if sampler == "random" or variable.path != "logit/bias":
            assert np.abs(ours - theirs).mean() < 10 * close, variable.path
    # A second epoch, and a last batch that is not full, are the same program.
    for trainer in (plain, compiled):
        assert trainer._train_steps.experimental_get_tracing_count() == 1
    assert compiled.step._compiled_train.experimental_get_tracing_count() == 1


class OfStrings(DNN):
    """As a plugin's may be: XLA knows no strings."""

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        encoded, losses = super().encode(embedded, training)
        number = tf.strings.to_number(tf.strings.as_string(tf.reduce_sum(embedded.event_item_ids)))
        return encoded + 0.0 * tf.cast(number, encoded.dtype), losses


def test_what_cannot_be_compiled_trains_without_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = distinct_candidates()
    plain = trainer_of("dnn", "in_batch", "float32", "off", OfStrings)
    with monkeypatch.context() as patch:
        patch.setattr(tf.config, "list_logical_devices", lambda kind: [SimpleNamespace(name=kind)])
        trainer = trainer_of("dnn", "in_batch", "float32", "auto", OfStrings)
    assert trainer.step.compiles
    # As a checkpoint sets it, that a training goes on from.
    for each in (trainer, plain):
        each.sampler.step.assign(7)
    with caplog.at_level(logging.WARNING):
        loss, impressions = trainer.train_epoch(data)
    assert "The training step is not compiled, and slower for it: " in caplog.text
    assert "AsString" in caplog.text
    # Nothing of the try is left: each batch was trained on once.
    assert (loss, impressions) == plain.train_epoch(data)
    assert int(trainer.sampler.step) == 7 + 5
    for ours, theirs in zip(trainer.model.get_weights(), plain.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_where_it_is_required_that_is_an_error() -> None:
    trainer = trainer_of("dnn", "in_batch", "float32", "on", OfStrings)
    with pytest.raises(NotCompiled, match="training.compile=on, and XLA cannot compile a step of OfStrings with Mixed"):
        trainer.train_epoch(distinct_candidates())


def test_a_cpu_compiles_nothing_unless_it_is_told_to() -> None:
    assert not trainer_of("dnn", "random", "float32", "auto").step.compiles


def test_one_device_needs_no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_strategy() is tf.distribute.get_strategy()
    gpu = tf.config.list_logical_devices("CPU")[:1]
    for listing in ("get_visible_devices", "list_logical_devices"):
        monkeypatch.setattr(tf.config, listing, lambda kind: gpu)
    assert isinstance(training_strategy(), tf.distribute.OneDeviceStrategy)


def test_tf32_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    def stop(replicas: int) -> None:
        raise Enough

    monkeypatch.setattr(training, "training_strategy", stop)
    assert tf.config.experimental.tensor_float_32_execution_enabled()
    settings: Any = SimpleNamespace(training=TrainingConfig(tf32=False), stored=None)
    nothing: Any = None
    try:
        with pytest.raises(Enough):
            training.train(settings, transform=nothing, catalogue_size=1, train_files=[], validation_files=[])
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)

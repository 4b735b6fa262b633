"""A training that was stopped goes on as if it had not been, samplers included; validation leaves samplers alone."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_process import BATCH, ROWS, SAMPLERS, batches, sampler_of

from components.config import TrainingConfig
from components.trainer.checkpoint import EpochCheckpoint
from components.trainer.export import ServedRanker
from components.trainer.fit import Epoch, Trainer, fit
from models.config import ModelConfig
from models.registry import build_model
from models.samplers.config import LossConfig
from models.samplers.frequency import StreamingFrequencies

CONFIG = ModelConfig(name="dnn", embedding_dim=4, item_unknown_rate=0.0)


def trainer_of(name: str) -> Trainer:
    keras.utils.set_random_seed(1)
    model = build_model(CONFIG, 10, 10, history_length=4)
    loss = LossConfig(name="sampled_softmax")
    return Trainer(model, tf.distribute.get_strategy(), sampler_of(SAMPLERS[name]), loss, 1e-2, row_decay=1e-3)


def data_of(number: int) -> tf.data.Dataset:
    return batches(rows=ROWS, batch_size=BATCH).shuffle(10, seed=number)


def train(trainer: Trainer, epochs: int, folder: Path) -> list[Epoch]:
    validation = batches(rows=ROWS, batch_size=BATCH)
    config = TrainingConfig(epochs=epochs, early_stopping_patience=9)
    return fit(trainer, data_of, validation, config, checkpoint=EpochCheckpoint(str(folder), trainer))


def state(trainer: Trainer) -> list[np.ndarray]:
    kept = [*trainer.optimizer.variables, *trainer.sampler.variables]
    return [np.asarray(variable) for variable in kept] + trainer.model.get_weights()


@pytest.mark.parametrize("name", ["frequency", "hard"])
def test_resume_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    whole = trainer_of(name)
    epochs = train(whole, 4, tmp_path / "whole")
    stopped = trainer_of(name)
    train(stopped, 2, tmp_path / "parts")
    resumed = trainer_of(name)
    again = train(resumed, 4, tmp_path / "parts")
    assert [epoch.number for epoch in again] == [1, 2, 3, 4]
    assert [epoch.train_loss for epoch in again] == pytest.approx([epoch.train_loss for epoch in epochs], abs=1e-6)
    for ours, theirs in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert int(resumed.sampler.step) == 4 * 5

    # All epochs are done: nothing is trained, and the weights are the best ones.
    done = trainer_of(name)
    assert train(done, 4, tmp_path / "parts") == again
    for ours, theirs in zip(done.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_arrays_are_in_the_checkpoint_and_what_is_counted_anew_is_not(tmp_path: Path) -> None:
    trainer = trainer_of("frequency")
    train(trainer, 1, tmp_path)
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "state-1"))]
    for part in ("gap", "last_step", "seen"):
        assert any(f"sampler/frequencies/{part}" in name for name in names)
    assert not any("own_keys" in name or "item_ids" in name for name in names)
    assert sorted(path.name for path in tmp_path.glob("state-*.index")) == ["state-1.index"]


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_validation_leaves_the_sampler_alone(name: str) -> None:
    trainer = trainer_of(name)
    strategy = tf.distribute.get_strategy()
    data = strategy.experimental_distribute_dataset(batches(rows=ROWS, batch_size=BATCH))
    before = [np.asarray(variable) for variable in trainer.sampler.variables]
    first = trainer.evaluate(data)
    assert trainer.evaluate(data) == first
    for old, new in zip(before, trainer.sampler.variables, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))


def test_nothing_of_a_sampler_can_be_exported() -> None:
    trainer = trainer_of("frequency")
    tracked = {variable.ref() for variable in tf.Module.variables.fget(trainer.sampler)}  # type: ignore[attr-defined]
    assert any(isinstance(module, StreamingFrequencies) for module in trainer.sampler.submodules)
    assert not tracked & {tf.convert_to_tensor(weight).ref() for weight in trainer.model.variables}
    assert not any(hasattr(trainer.model, name) for name in ("sampler", "frequencies"))
    assert "sampler" not in ServedRanker.__init__.__annotations__

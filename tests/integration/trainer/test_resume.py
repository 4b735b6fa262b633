"""A training that was stopped goes on as if it had not been, samplers included; validation leaves samplers alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_process import BATCH, RANDOM, ROWS, SAMPLERS, batches, sampler_of

from ctr.components.settings import TrainingConfig
from ctr.components.trainer.checkpoint import CheckpointUnreadable, EpochCheckpoint
from ctr.components.trainer.export import ServedRanker
from ctr.components.trainer.fit import Epoch, Position, TrainingLoop, fit
from ctr.components.trainer.step import Compile
from ctr.models.layers.sharded_table import sharded_tables
from ctr.models.model_config import ModelConfig
from ctr.models.registry import MODELS, build_model
from ctr.models.samplers.frequency import StreamingFrequencies
from ctr.models.samplers.sampler_config import LossConfig
from ctr.models.sharded_adam import ShardedAdam


def trainer_of(
    model: str,
    sampler: str = "random",
    policy: str = "float32",
    sharded: bool = False,
    accumulate_steps: int = 1,
    compile: Compile = "auto",
) -> TrainingLoop:
    """Default settings, unknown items included, with dropout on; small."""
    keras.utils.set_random_seed(1)
    settings = {"name": model, "dropout": 0.2, "embedding_dim": 4, "hidden_units": [4], "caser": {"events": 4}}
    config = ModelConfig.model_validate(settings)
    assert config.item_unknown_rate == 0.2
    loss = LossConfig(name="pointwise" if sampler == "random" else "sampled_softmax")
    drawn_by = sampler_of(RANDOM if sampler == "random" else SAMPLERS[sampler])
    keras.config.set_dtype_policy(policy)
    try:
        with sharded_tables(sharded):
            ranker = build_model(config, 10, 10, history_length=4)
    finally:
        keras.config.set_dtype_policy("float32")
    return TrainingLoop(ranker, tf.distribute.get_strategy(), drawn_by, loss, 1e-2, 1e-3, accumulate_steps, compile)


def data_of(number: int) -> tf.data.Dataset:
    return batches(rows=ROWS, batch_size=BATCH).shuffle(10, seed=number)


def train(trainer: TrainingLoop, epochs: int, folder: Path, on_epoch: Callable[[Epoch], None] = print) -> list[Epoch]:
    validation = batches(rows=ROWS, batch_size=BATCH)
    config = TrainingConfig(epochs=epochs, early_stopping_patience=9)
    return fit(trainer, data_of, validation, config, on_epoch, EpochCheckpoint(str(folder), trainer))


def state(trainer: TrainingLoop) -> list[np.ndarray]:
    """All that training changes: weights, statistics, counters of draws, moments, the sampler's arrays, loss scale."""
    kept = [*trainer.model.variables, *trainer.optimizer.variables, *trainer.sampler.variables]
    kept += trainer.shards
    if isinstance(trainer.optimizer, ShardedAdam):
        kept += [moment for both in trainer.optimizer.moments for moment in both]
    if trainer.loss_scale is not None:
        kept += trainer.loss_scale.variables
    return [np.asarray(variable) for variable in kept]


# Each model in float16, the narrower range, whose loss scale is one thing more to go on from; to trace a training takes
# most of the time, and so that each of them learns there is seen in the same one.
CASES = [
    *((model, "random", "mixed_float16") for model in MODELS),
    *(("dnn", sampler, "float32") for sampler in sorted(SAMPLERS)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "sampler", "policy"), CASES)
def test_resume_equals_uninterrupted(model: str, sampler: str, policy: str, tmp_path: Path) -> None:
    parts = tmp_path / "parts"

    def leave_off(epoch: Epoch) -> None:
        # What a training that is stopped in its second epoch leaves behind.
        if epoch.number == 2:
            shutil.copytree(tmp_path / "whole", parts)

    whole = trainer_of(model, sampler, policy)
    epochs = train(whole, 3, tmp_path / "whole", leave_off)
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert all(np.isfinite(weight).all() and weight.dtype == np.float32 for weight in whole.model.get_weights())
    uninterrupted = state(whole)
    # What is not restored would still be as it was at the end. A process of its own goes on in the end-to-end tests;
    # here a trainer that was made anew does with each sampler, and to trace one takes most of the time.
    resumed = trainer_of(model, sampler, policy) if model == "dnn" else whole
    # Whatever else the process drew before does not matter.
    tf.random.uniform([3])
    told: list[Epoch] = []
    again = train(resumed, 3, parts, told.append)
    assert [epoch.number for epoch in again] == [epoch.number for epoch in told] == [1, 2, 3]
    assert again[0] == epochs[0]
    assert [epoch.train_loss for epoch in again] == [epoch.train_loss for epoch in epochs]
    for ours, theirs in zip(state(resumed), uninterrupted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert int(resumed.sampler.step) == 3 * 5


def test_a_stop_within_an_epoch_repeats_none_of_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A step a call, each followed by a checkpoint.
    monkeypatch.setattr("ctr.components.trainer.fit._STEPS_PER_CALL", 1)
    left_off: list[list[str]] = []

    def run(trainer: TrainingLoop, folder: Path, minutes: float | None, stop_at: int | None = None) -> list[Epoch]:
        checkpoint = EpochCheckpoint(str(folder), trainer)
        save = checkpoint.save_within

        def save_and_stop(epochs: list[Epoch], position: Position) -> None:
            save(epochs, position)
            left_off.append(sorted(path.name for path in folder.glob("state-*.index")))
            if (len(epochs), position.steps) == (1, stop_at):
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint, "save_within", save_and_stop)
        config = TrainingConfig(epochs=2, early_stopping_patience=9, checkpoint_minutes=minutes)
        return fit(trainer, data_of, batches(ROWS, BATCH), config, checkpoint=checkpoint)

    # With sharded tables, which are no variables of the model, besides.
    def new() -> TrainingLoop:
        return trainer_of("dnn", "streaming_frequency", sharded=True)

    whole = new()
    epochs = run(whole, tmp_path / "whole", minutes=None)
    assert left_off == [["state-1-0.index"], ["state-2-0.index"]]
    with pytest.raises(KeyboardInterrupt):
        run(new(), tmp_path / "parts", minutes=1e-9, stop_at=3)
    assert left_off[-1] == ["state-1-3.index"]
    # What TensorFlow leaves where it is killed while it writes.
    (tmp_path / "parts" / "state-1-4_temp").mkdir()
    (tmp_path / "parts" / "state-1-4_temp" / "part-00000-of-00001.index").touch()
    del left_off[:]
    resumed = new()
    again = run(resumed, tmp_path / "parts", minutes=1e-9)
    # Of an epoch of five steps, two were left.
    assert left_off == [["state-1-4.index"], ["state-1-5.index"], ["state-2-0.index"]]
    assert not list(tmp_path.glob("parts/*_temp"))
    assert [epoch.train_loss for epoch in again] == [epoch.train_loss for epoch in epochs]
    for ours, theirs in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_training_that_was_done_is_not_trained_again(tmp_path: Path) -> None:
    trainer = trainer_of("dnn")
    epochs = train(trainer, 2, tmp_path)
    done = trainer_of("dnn")
    assert train(done, 2, tmp_path) == epochs
    for ours, theirs in zip(done.model.get_weights(), trainer.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(trainer_of("dnn"), 1, tmp_path)
    (data,) = tmp_path.glob("state-1-0.data*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CheckpointUnreadable, match=f"{tmp_path}: .* delete this folder to train from the start"):
        train(trainer_of("dnn"), 2, tmp_path)
    (tmp_path / "progress.json").write_text("{")
    with pytest.raises(CheckpointUnreadable, match="delete this folder"):
        train(trainer_of("dnn"), 2, tmp_path)


def test_the_arrays_are_in_the_checkpoint_and_what_is_counted_anew_is_not(tmp_path: Path) -> None:
    trainer = trainer_of("dnn", "streaming_frequency")
    train(trainer, 1, tmp_path)
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "state-1-0"))]
    for part in ("gap", "last_step", "seen"):
        assert any(f"sampler/frequencies/{part}" in name for name in names)
    assert not any("own_keys" in name or "item_ids" in name for name in names)
    assert sorted(path.name for path in tmp_path.glob("state-*.index")) == ["state-1-0.index"]


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_validation_leaves_the_sampler_alone(name: str) -> None:
    trainer = trainer_of("dnn", name)
    data = batches(rows=ROWS, batch_size=BATCH)
    before = [np.asarray(variable) for variable in trainer.sampler.variables]
    first = trainer.evaluate(data)
    assert trainer.evaluate(data) == first
    for old, new in zip(before, trainer.sampler.variables, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))


def test_nothing_of_a_sampler_can_be_exported() -> None:
    trainer = trainer_of("dnn", "streaming_frequency")
    tracked = {variable.ref() for variable in tf.Module.variables.fget(trainer.sampler)}
    assert any(isinstance(module, StreamingFrequencies) for module in trainer.sampler.submodules)
    assert not tracked & {tf.convert_to_tensor(weight).ref() for weight in trainer.model.variables}
    assert not any(hasattr(trainer.model, name) for name in ("sampler", "frequencies"))
    assert "sampler" not in ServedRanker.__init__.__annotations__

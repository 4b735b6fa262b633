"""A training that is followed more closely, by a profile and by AUCs within an epoch, is the same training."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from test_resume import data_of, state, trainer_of
from training_process import BATCH, ROWS, batches

from ctr.components.settings import TrainingConfig
from ctr.components.trainer.checkpoint import EpochCheckpoint
from ctr.components.trainer.fit import Epoch, Position, TrainingLoop, fit
from ctr.components.trainer.profile import profile

PARTS = 4


def train(trainer: TrainingLoop, parts: int) -> list[Epoch]:
    config = TrainingConfig(epochs=2, batch_size=BATCH, auc_fractions=parts, early_stopping_patience=9)
    return fit(trainer, data_of, batches(rows=ROWS, batch_size=BATCH), config, train_impressions=ROWS)


def test_what_follows_a_training_changes_nothing_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Float16 for its loss scale, streaming for a sampler that keeps arrays; dropout and unknown items draw.
    plain = trainer_of("dnn", "streaming_frequency", "mixed_float16")
    epochs = train(plain, parts=1)
    followed = trainer_of("dnn", "streaming_frequency", "mixed_float16")

    found = profile(followed, data_of(1), 3, str(tmp_path))
    assert int(followed.sampler.step) == 0
    caplog.set_level(logging.INFO)
    watched = train(followed, PARTS)

    for ours, theirs in zip(state(followed), state(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [epoch.validation_auc for epoch in watched] == [epoch.validation_auc for epoch in epochs]
    # Of the whole epoch, whatever it was cut into.
    assert [epoch.train_loss for epoch in watched] == pytest.approx([epoch.train_loss for epoch in epochs])

    assert [epoch.auc_within for epoch in epochs] == [[], []]
    within = [auc for epoch in watched for auc in epoch.auc_within]
    assert len(within) == 2 * (PARTS - 1)
    assert len({*within, *(epoch.validation_auc for epoch in watched)}) > PARTS
    assert f"Epoch 1, after 1/{PARTS} of it: validation AUC {within[0]:.4f}" in caplog.text

    assert (found.steps, found.batch_size, found.device) == (3, BATCH, "CPU")
    assert found.input_wait > 0
    assert found.forward > 0
    assert found.total == pytest.approx(sum(found.parts.values()))
    assert [path.stat().st_size > 1000 for path in tmp_path.glob("plugins/profile/*/*.xplane.pb")] == [True]

    # Of an epoch shorter than its parts, some are over at once.
    steps: list[int] = []
    data = data_of(1)
    before = int(followed.sampler.step)
    followed.train_epoch(data, pauses=[1, 1, 3], at_pause=lambda: steps.append(int(followed.sampler.step) - before))
    assert steps == [1, 1, 3]


@pytest.mark.slow
def test_compiled_in_parts_followed_and_stopped_it_is_the_same_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A step a call, each followed by a checkpoint; five an epoch, and a part of it is over after two.
    monkeypatch.setattr("ctr.components.trainer.fit._STEPS_PER_CALL", 1)
    settings = {"epochs": 2, "batch_size": BATCH, "accumulate_steps": 3, "auc_fractions": 2, "checkpoint_minutes": 1e-9}
    config = TrainingConfig.model_validate(settings)
    plain = trainer_of("dnn", accumulate_steps=3, compile="off")
    trainer = trainer_of("dnn", accumulate_steps=3, compile="on")
    validation = batches(rows=ROWS, batch_size=BATCH)
    epochs = fit(plain, data_of, validation, config, train_impressions=ROWS)

    profile(trainer, data_of(1), 2, str(tmp_path / "trace"))
    checkpoint = EpochCheckpoint(str(tmp_path / "checkpoint"), trainer)
    save = checkpoint.save_within

    def save_and_stop(done: list[Epoch], position: Position) -> None:
        save(done, position)
        if (len(done), position.steps) == (1, 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_within", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, data_of, validation, config, checkpoint=checkpoint, train_impressions=ROWS)
    monkeypatch.setattr(checkpoint, "save_within", save)
    # What is not restored would still be as it was at the stop.
    trainer.train_epoch(data_of(3))
    again = fit(trainer, data_of, validation, config, checkpoint=checkpoint, train_impressions=ROWS)

    assert trainer.step.compiles
    # The part that was over before the stop is not measured again.
    assert [len(epoch.auc_within) for epoch in again] == [1, 1]
    for ours, theirs in zip(again, epochs, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-5)
        assert ours.auc_within == pytest.approx(theirs.auc_within, abs=1e-3)
    assert int(trainer.sampler.step) == int(plain.sampler.step) == 2 * 5 * 3
    for ours, theirs in zip(trainer.model.get_weights(), plain.model.get_weights(), strict=True):
        assert np.abs(ours - theirs).mean() < 1e-4

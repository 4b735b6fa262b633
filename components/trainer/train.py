"""Builds and trains a model from transformed examples: what the Trainer step and the sweep have in common."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from ctr.components.examples.blocks import damage_named
from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
from ctr.components.settings import StoredImpressions, TrainingConfig
from ctr.components.step_profile import StepProfile
from ctr.components.trainer.calibration import Calibration, fit_calibration, validation_scores
from ctr.components.trainer.checkpoint import EpochCheckpoint
from ctr.components.trainer.cluster import SHARDED, is_chief, several_workers
from ctr.components.trainer.fit import Epoch, TrainingLoop, fit
from ctr.components.trainer.input_pipeline import read_batches
from ctr.components.trainer.profile import profile
from ctr.components.trainer.settings import TrainerSettings
from ctr.components.trainer.sharding import whole
from ctr.components.trainer.strategy import (
    all_for_this_worker,
    files_of_worker,
    losing_workers,
    training_strategy,
)
from ctr.components.trainer.window import read_window
from ctr.models.contract import Ranker
from ctr.models.impression import CANDIDATE_INPUTS, FIRST_KNOWN_INDEX, SHOWN, VALIDATION_SPLIT
from ctr.models.layers.sharded_table import sharded_tables
from ctr.models.registry import build_model
from ctr.models.samplers.base import POSITIVE, TrainingWindow
from ctr.models.samplers.registry import SamplerContext, build_sampler
from ctr.models.samplers.sampler_config import SamplerConfig


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Trained(NamedTuple):
    """A model with the weights of its best epoch, calibrated."""

    model: Ranker
    epochs: list[Epoch]
    calibration: Calibration
    """What the logits of the training went through; scale 1 and offset 0 if nothing was asked for."""
    preparation_seconds: float
    """The pass over the training split that a sampler needs; 0 where it needs none."""
    profile: StepProfile | None = None
    """Where ``training.profile_steps`` asks for it, and there is a folder for the trace."""


def train(
    settings: TrainerSettings,
    *,
    transform: tft.TFTransformOutput,
    catalogue_size: int,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    checkpoint_folder: str | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    train_impressions: int = 0,
    profile_folder: str | None = None,
) -> Trained:
    """Trains on the train split and chooses the epoch on the validation split (or on ``choose_epoch_on``).

    Args:
      settings: what is trained, and how.
      transform: output of the Transform step, for the sizes of its vocabularies.
      catalogue_size: items of the train split, which uniform negatives were drawn from.
      train_files: transformed examples, see :mod:`ctr.components.examples.blocks`.
      validation_files: likewise, later in time than those of train.
      checkpoint_folder: to go on from, if a training was stopped, and to save to. Several workers share it.
      on_epoch: called after each epoch.
      train_impressions: of the train split, for ``training.auc_fractions``, which has no effect without it.
      profile_folder: gets the trace of ``training.profile_steps``, which has no effect without it, nor with several
        workers.

    Returns:
      Of several workers, the chief's alone is calibrated.

    Raises:
      ConfigError: if tables are to be sharded over several workers.
      WorkerLost: if another worker is.
      ValueError: if a split has no files or a damaged one, or the validation split lacks positives or negatives.
      TrainingDiverged: if the loss is not finite.
    """
    training, stored = settings.training, settings.stored
    tf.config.experimental.enable_tensor_float_32_execution(training.tf32)
    if training.shard_tables:
        SHARDED.require()
    strategy = training_strategy(training.cpu_replicas)
    keras.utils.set_random_seed(training.seed)
    start = time.perf_counter()
    window = _window(settings.sampler, train_files, catalogue_size)
    preparation_seconds = time.perf_counter() - start if settings.sampler.needs_window else 0.0

    files, is_part = files_of_worker(train_files)

    def epoch_batches(number: int) -> tf.data.Dataset:
        batches = read_batches(
            files,
            batch_size=training.batch_size,
            history_length=stored.history_length,
            shuffle_buffer=training.shuffle_buffer,
            candidates=stored.candidates,
            # Of the number as well, so that a training that goes on sees the order that it would have seen.
            seed=int(np.random.SeedSequence([training.seed, number]).generate_state(1)[0] >> 1),
        )
        return all_for_this_worker(batches, stored.candidates) if is_part else batches

    validation_batches = judged_candidates(
        read_batches(
            validation_files,
            batch_size=training.batch_size,
            history_length=stored.history_length,
            limit=training.max_validation_impressions,
            candidates=stored.candidates if training.choose_epoch_on == VALIDATION_SPLIT else None,
        ),
        stored,
    )

    def new_model() -> Ranker:
        with _policy(training.precision):
            return build_model(
                settings.model,
                item_indices=FIRST_KNOWN_INDEX + transform.vocabulary_size_by_name(ITEM_VOCABULARY),
                category_indices=FIRST_KNOWN_INDEX + transform.vocabulary_size_by_name(CATEGORY_VOCABULARY),
                history_length=stored.history_length,
            )

    with strategy.scope():
        with sharded_tables(training.shard_tables):
            model = new_model()
        context = SamplerContext(
            settings.sampler,
            window,
            stored.training_negatives,
            training.part_size,
            training.seed,
            bool(stored.exposures),
        )
        sampler = build_sampler(context)
    trainer = TrainingLoop(
        model,
        strategy,
        sampler,
        training.loss,
        training.step_size,
        settings.model.embedding_l2,
        training.accumulate_steps,
        training.compile,
    )
    chief = is_chief()
    checkpoint = EpochCheckpoint(checkpoint_folder, trainer, writes=chief) if checkpoint_folder else None
    profiled = None
    with damage_named([*train_files, *validation_files]):
        with losing_workers(strategy):
            if training.profile_steps and profile_folder and not several_workers():
                profiled = profile(trainer, epoch_batches(1), training.profile_steps, profile_folder)
            epochs = fit(trainer, epoch_batches, validation_batches, training, on_epoch, checkpoint, train_impressions)
        if training.shard_tables:
            # The tables as a whole fit in the host's memory, and in a server's.
            with tf.device("CPU:0"):
                model = whole(model, new_model())
        calibration = _calibrate(model, validation_batches, training, stored) if chief else Calibration(1.0, 0.0)
    return Trained(model, epochs, calibration, preparation_seconds, profiled)


def judged_candidates(batches: tf.data.Dataset, stored: StoredImpressions) -> tf.data.Dataset:
    """Validation impressions with those negatives alone that resemble what a model is judged on.

    Where no negative of the judged kind is stored, all of them are kept; of a log of exposures, all that was shown.
    """
    if stored.flip_labels or stored.judged_set == SHOWN:
        return batches
    columns = stored.training_negatives.columns(stored.judged_set)
    if columns.start == columns.stop:
        return batches

    def select(inputs: dict[str, tf.Tensor], labels: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        kept = {name: pick(inputs[name]) for name in CANDIDATE_INPUTS}
        return {**inputs, **kept}, pick(labels)

    def pick(tensor: tf.Tensor) -> tf.Tensor:
        return tf.concat([tensor[:, POSITIVE], tensor[:, columns]], axis=1)

    return batches.map(select)


def _window(config: SamplerConfig, train_files: Sequence[str], catalogue_size: int) -> TrainingWindow:
    if config.needs_window:
        return read_window(train_files, catalogue_size)
    nothing = np.empty(0, np.int64)
    return TrainingWindow(catalogue_size, nothing, nothing, nothing)


def _calibrate(
    model: Ranker, batches: tf.data.Dataset, training: TrainingConfig, stored: StoredImpressions
) -> Calibration:
    if training.calibration == "none":
        return Calibration(1.0, 0.0)
    logits, labels = validation_scores(model, batches)
    if stored.exposures:
        # What was shown is at the rate that it was clicked at.
        rate = float((labels == 0).sum() / max(labels.sum(), 1))
    else:
        rate = 1.0 if stored.flip_labels else float(stored.evaluation_negatives)
    calibration = fit_calibration(logits, labels, rate, with_scale=training.calibration == "platt")
    model.rescale_logits(*calibration)
    return calibration

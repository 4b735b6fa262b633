"""Builds and trains a model from transformed examples: what the Trainer step and the sweep have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow_transform as tft

from components.config import TrainingConfig
from components.trainer.fit import Epoch, Trainer, fit
from components.trainer.input_pipeline import read_batches
from components.trainer.strategy import training_strategy
from components.transform.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
from models.config import ModelConfig
from models.contract import Ranker
from models.impression import EVAL_SPLIT, FIRST_KNOWN_INDEX, VALIDATION_SPLIT
from models.registry import build_model


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Trained(NamedTuple):
    """A model with the weights of its best epoch."""

    model: Ranker
    epochs: list[Epoch]


def epoch_split(training: TrainingConfig) -> str:
    """The split that the epoch is chosen on."""
    return {"validation": VALIDATION_SPLIT, "eval": EVAL_SPLIT}[training.choose_epoch_on]


def train(
    model_config: ModelConfig,
    training: TrainingConfig,
    *,
    transform: tft.TFTransformOutput,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    history_length: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Trained:
    """Trains on the train split and chooses the epoch on the validation split (or :func:`epoch_split`).

    Args:
      model_config: what is trained.
      training: how.
      transform: output of the Transform step, for the sizes of its vocabularies.
      train_files: transformed examples, TFRecord gzip.
      validation_files: likewise, later in time than those of train.
      history_length: L.
      on_epoch: called after each epoch.

    Raises:
      ValueError: if a split has no files, or the validation split lacks positives or negatives.
      TrainingDiverged: if the loss is not finite.
    """
    strategy = training_strategy(training.cpu_replicas)
    keras.utils.set_random_seed(training.seed)
    train_batches = read_batches(
        train_files,
        batch_size=training.batch_size,
        history_length=history_length,
        shuffle_buffer=training.shuffle_buffer,
        seed=training.seed,
    )
    validation_batches = read_batches(
        validation_files,
        batch_size=training.batch_size,
        history_length=history_length,
        limit=training.max_validation_impressions,
    )
    with strategy.scope(), _policy(training.precision):
        model = build_model(
            model_config,
            item_indices=FIRST_KNOWN_INDEX + transform.vocabulary_size_by_name(ITEM_VOCABULARY),
            category_indices=FIRST_KNOWN_INDEX + transform.vocabulary_size_by_name(CATEGORY_VOCABULARY),
            history_length=history_length,
        )
    trainer = Trainer(model, strategy, training.learning_rate, row_decay=model_config.embedding_l2)
    return Trained(model, fit(trainer, train_batches, validation_batches, training, on_epoch))

"""What TFX's Trainer calls."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Final

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx.dsl.io import fileio

from components.config import TrainingConfig
from components.trainer.export import export
from components.trainer.fit import Epoch, Trainer, fit
from components.trainer.input_pipeline import read_batches
from components.trainer.strategy import training_strategy
from components.transform.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY
from models.config import ModelConfig
from models.impression import FIRST_KNOWN_INDEX
from models.registry import build_model

MODEL_KEY: Final = "model"
TRAINING_KEY: Final = "training"
HISTORY_LENGTH_KEY: Final = "history_length"
HISTORY_FILE: Final = "epochs.json"


def run_fn(fn_args: Any) -> None:
    """Trains on the train split, chooses the epoch on the validation split, and exports.

    Args:
      fn_args: ``tfx.components.FnArgs``; ``train_files`` and ``eval_files`` are patterns of the train and the
        validation split (TFX calls any second split "eval"); ``custom_config`` holds the sections of the
        model and of the training as JSON and the history length.
    """
    settings = fn_args.custom_config
    model_config = ModelConfig.model_validate_json(settings[MODEL_KEY])
    training = TrainingConfig.model_validate_json(settings[TRAINING_KEY])
    history_length = int(settings[HISTORY_LENGTH_KEY])
    strategy = training_strategy(training.cpu_replicas)
    keras.utils.set_random_seed(training.seed)

    transform = tft.TFTransformOutput(fn_args.transform_output)
    train = read_batches(
        _files(fn_args.train_files),
        batch_size=training.batch_size,
        history_length=history_length,
        shuffle_buffer=training.shuffle_buffer,
        seed=training.seed,
    )
    validation = read_batches(
        _files(fn_args.eval_files),
        batch_size=training.batch_size,
        history_length=history_length,
        limit=training.max_validation_impressions,
    )
    with strategy.scope():
        model = build_model(
            model_config,
            item_indices=FIRST_KNOWN_INDEX + transform.vocabulary_size_by_name(ITEM_VOCABULARY),
            category_indices=FIRST_KNOWN_INDEX + transform.vocabulary_size_by_name(CATEGORY_VOCABULARY),
            history_length=history_length,
        )
    writer = tf.summary.create_file_writer(fn_args.model_run_dir)

    def log(epoch: Epoch) -> None:
        values = dataclasses.asdict(epoch)
        with writer.as_default(step=values.pop("number")):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    trainer = Trainer(model, strategy, training.learning_rate, row_decay=model_config.embedding_l2)
    epochs = fit(trainer, train, validation, training, log)
    with fileio.open(os.path.join(fn_args.model_run_dir, HISTORY_FILE), "w") as file:
        file.write(json.dumps([dataclasses.asdict(epoch) for epoch in epochs], indent=1))
    export(model, transform, history_length, fn_args.serving_model_dir)


def _files(patterns: list[str]) -> list[str]:
    return [file for pattern in patterns for file in fileio.glob(pattern)]

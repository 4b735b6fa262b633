"""What TFX's Trainer calls."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Final

import tensorflow as tf
import tensorflow_transform as tft
from tfx.dsl.io import fileio

from components.config import TrainingConfig
from components.trainer.export import export
from components.trainer.fit import Epoch
from components.trainer.train import train
from models.config import ModelConfig

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
    transform = tft.TFTransformOutput(fn_args.transform_output)
    writer = tf.summary.create_file_writer(fn_args.model_run_dir)

    def log(epoch: Epoch) -> None:
        values = dataclasses.asdict(epoch)
        with writer.as_default(step=values.pop("number")):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    model, epochs = train(
        model_config,
        training,
        transform=transform,
        train_files=_files(fn_args.train_files),
        validation_files=_files(fn_args.eval_files),
        history_length=history_length,
        on_epoch=log,
    )
    with fileio.open(os.path.join(fn_args.model_run_dir, HISTORY_FILE), "w") as file:
        file.write(json.dumps([dataclasses.asdict(epoch) for epoch in epochs], indent=1))
    export(model, transform, history_length, fn_args.serving_model_dir)


def _files(patterns: list[str]) -> list[str]:
    return [file for pattern in patterns for file in fileio.glob(pattern)]

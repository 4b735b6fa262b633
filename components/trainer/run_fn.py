"""What TFX's Trainer calls."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Final

import tensorflow as tf
import tensorflow_transform as tft
from tfx.dsl.io import fileio

from components.examples.catalogue import Catalogue
from components.examples.shards import list_shards
from components.settings import StoredImpressions, TrainingConfig
from components.trainer.export import export
from components.trainer.fit import Epoch
from components.trainer.train import train
from components.trainer.warmup import warmup_requests
from models.model_config import ModelConfig
from models.registration import load_plugins
from models.samplers.sampler_config import SamplerConfig
from serving.warmup import write_warmup

MODEL_KEY: Final = "model"
TRAINING_KEY: Final = "training"
SAMPLER_KEY: Final = "sampler"
STORED_KEY: Final = "stored"
CATALOGUE_KEY: Final = "catalogue"
RAW_EXAMPLES_KEY: Final = "raw_examples"
PLUGINS_KEY: Final = "plugins"
CODE_OF_KEY: Final = "built_from"
HISTORY_FILE: Final = "epochs.json"
CALIBRATION_FILE: Final = "calibration.json"
CHECKPOINT_KEY: Final = "checkpoint"


def run_fn(fn_args: Any) -> None:
    """Trains on the train split, chooses the epoch on the validation split, and exports.

    Args:
      fn_args: ``tfx.components.FnArgs``; ``train_files`` and ``eval_files`` are patterns of the train and the
        validation split (TFX calls any second split "eval"); ``custom_config`` holds sections of the
        configuration as JSON, the addresses of the catalogue, the raw validation split and the checkpoint and, where
        there are some, the names of plugins.
    """
    settings = fn_args.custom_config
    load_plugins(settings.get(PLUGINS_KEY, ()))
    model_config = ModelConfig.model_validate_json(settings[MODEL_KEY])
    training = TrainingConfig.model_validate_json(settings[TRAINING_KEY])
    stored = StoredImpressions.model_validate_json(settings[STORED_KEY])
    transform = tft.TFTransformOutput(fn_args.transform_output)
    writer = tf.summary.create_file_writer(fn_args.model_run_dir)

    def log(epoch: Epoch) -> None:
        values = dataclasses.asdict(epoch)
        with writer.as_default(step=values.pop("number")):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    trained = train(
        model_config,
        SamplerConfig.model_validate_json(settings[SAMPLER_KEY]),
        training,
        stored=stored,
        transform=transform,
        catalogue_size=len(Catalogue.read(settings[CATALOGUE_KEY]).item_ids),
        train_files=_files(fn_args.train_files),
        validation_files=_files(fn_args.eval_files),
        checkpoint_folder=settings[CHECKPOINT_KEY],
        on_epoch=log,
    )
    with fileio.open(os.path.join(fn_args.model_run_dir, HISTORY_FILE), "w") as file:
        file.write(json.dumps([dataclasses.asdict(epoch) for epoch in trained.epochs], indent=1))
    with fileio.open(os.path.join(fn_args.model_run_dir, CALIBRATION_FILE), "w") as file:
        file.write(json.dumps(trained.calibration._asdict()))
    export(trained.model, transform, stored.history_length, fn_args.serving_model_dir)
    raw_files = list_shards(settings[RAW_EXAMPLES_KEY])
    write_warmup(fn_args.serving_model_dir, warmup_requests(raw_files, stored.history_length))


def _files(patterns: list[str]) -> list[str]:
    # TFX gives <folder>/* for each artifact, and the folder is a name.
    return [shard for pattern in patterns for shard in list_shards(os.path.dirname(pattern))]

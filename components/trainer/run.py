"""One training, from the files of its steps' inputs to those of its outputs."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Sequence
from typing import Final

import tensorflow as tf
import tensorflow_transform as tft

from ctr.components.artifacts import EPOCHS_FILE
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.summary import IngestSummary
from ctr.components.step_profile import PROFILE_FILE
from ctr.components.trainer.cluster import is_chief
from ctr.components.trainer.export import export
from ctr.components.trainer.fit import Epoch
from ctr.components.trainer.settings import TrainerSettings
from ctr.components.trainer.train import train
from ctr.components.trainer.warmup import warmup_requests
from ctr.models.impression import TRAIN_SPLIT
from ctr.serving.warmup import write_warmup

CALIBRATION_FILE: Final = "calibration.json"
AUC_WITHIN_TAG: Final = "validation_auc_by_part"


def run(
    settings: TrainerSettings,
    *,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    raw_files: Sequence[str],
    transform_uri: str,
    catalogue_uri: str,
    checkpoint_folder: str,
    model_folder: str,
    model_run_uri: str,
) -> None:
    """Trains on the train split, chooses the epoch on the validation split, and exports.

    Args:
      settings: what is trained, and how.
      train_files: shards of transformed impressions.
      validation_files: likewise, of the split that the epoch is chosen on.
      raw_files: shards of the validation split before Transform, which the warmup requests are made of.
      transform_uri: the transform graph.
      catalogue_uri: the catalogue of the train split.
      checkpoint_folder: where a try that was stopped left off, and this one may.
      model_folder: gets the SavedModel.
      model_run_uri: gets the epochs, as JSON and for TensorBoard, the calibration and, if asked for, the profile.

    Of several workers the chief alone writes.
    """
    transform = tft.TFTransformOutput(transform_uri)
    chief = is_chief()

    # Made with the first epoch: before the strategy is there, a cluster bears no operation.
    @functools.cache
    def writer() -> tf.summary.SummaryWriter:
        return tf.summary.create_file_writer(model_run_uri)

    def log(epoch: Epoch) -> None:
        if not chief:
            return
        values = dataclasses.asdict(epoch)
        within = [*values.pop("auc_within"), epoch.validation_auc]
        with writer().as_default(step=values.pop("number")):
            for name, value in values.items():
                tf.summary.scalar(name, value)
            for part, auc in enumerate(within, start=1):
                # A step is a part of an epoch here: TensorBoard's are whole numbers.
                tf.summary.scalar(AUC_WITHIN_TAG, auc, step=(epoch.number - 1) * len(within) + part)

    trained = train(
        settings,
        transform=transform,
        catalogue_size=len(Catalogue.read(catalogue_uri).item_ids),
        train_files=train_files,
        validation_files=validation_files,
        checkpoint_folder=checkpoint_folder,
        on_epoch=log,
        train_impressions=IngestSummary.read(catalogue_uri).impressions[TRAIN_SPLIT],
        profile_folder=model_run_uri,
    )
    if not chief:
        return
    if trained.profile is not None:
        with tf.io.gfile.GFile(os.path.join(model_run_uri, PROFILE_FILE), "w") as file:
            file.write(trained.profile.model_dump_json())
    with tf.io.gfile.GFile(os.path.join(model_run_uri, EPOCHS_FILE), "w") as file:
        file.write(json.dumps([dataclasses.asdict(epoch) for epoch in trained.epochs], indent=1))
    with tf.io.gfile.GFile(os.path.join(model_run_uri, CALIBRATION_FILE), "w") as file:
        file.write(json.dumps(trained.calibration._asdict()))
    history_length = settings.stored.history_length
    export(trained.model, transform, history_length, model_folder, catalogue_uri)
    write_warmup(model_folder, warmup_requests(raw_files, history_length))

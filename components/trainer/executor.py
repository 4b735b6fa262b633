"""What the Trainer step runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from ctr.components import keys
from ctr.components.artifacts import Artifacts, Properties
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import list_shards
from ctr.components.settings import SETTINGS_KEY
from ctr.components.trainer.cluster import SEARCHED, several_workers
from ctr.components.trainer.run import run
from ctr.components.trainer.settings import (
    BEST_KEY,
    CATALOGUE_KEY,
    HYPERPARAMETERS_KEY,
    RAW_EXAMPLES_KEY,
    TrainerSettings,
    TunerSettings,
)
from ctr.components.trainer.workers import lead, work_file
from ctr.components.tuning import BEST_FILE, TUNING_FILE, best_values
from ctr.models.impression import TRAIN_SPLIT, VALIDATION_SPLIT


class Executor(base_executor.BaseExecutor):
    """Hands the addresses of what :func:`ctr.components.trainer.run.run` reads and writes to it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Trains; once the model is written, what only a further try would have needed is removed."""
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = TrainerSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        model_run = artifact_utils.get_single_uri(output_dict[keys.MODEL_RUN])
        if tuned := input_dict.get(HYPERPARAMETERS_KEY):
            uri = artifact_utils.get_single_uri(tuned)
            settings = settings.tuned(best_values(uri))
            # For the report, of which the search is a part of the training.
            fileio.copy(os.path.join(uri, TUNING_FILE), os.path.join(model_run, TUNING_FILE))
        checkpoint = checkpoint_folder(input_dict, output_dict, exec_properties)
        get_uri, get_split = artifact_utils.get_single_uri, artifact_utils.get_split_uri
        examples = input_dict[keys.EXAMPLES]
        work: dict[str, Any] = {
            "train_files": list_shards(get_split(examples, TRAIN_SPLIT)),
            "validation_files": list_shards(get_split(examples, settings.training.choose_epoch_on)),
            "raw_files": list_shards(get_split(input_dict[RAW_EXAMPLES_KEY], VALIDATION_SPLIT)),
            "transform_uri": get_uri(input_dict[keys.TRANSFORM_GRAPH]),
            "catalogue_uri": get_uri(input_dict[CATALOGUE_KEY]),
            "checkpoint_folder": checkpoint,
            "model_folder": path_utils.serving_model_dir(get_uri(output_dict[keys.MODEL])),
            "model_run_uri": model_run,
        }
        if several_workers():
            lead(work_file(os.path.dirname(os.path.dirname(checkpoint))), settings, work)
        else:
            run(settings, **work)
        if fileio.exists(checkpoint):
            fileio.rmtree(checkpoint)


class TunerExecutor(base_executor.BaseExecutor):
    """Hands the addresses of what :func:`ctr.components.trainer.search.search` reads to it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Searches; once the best values are written, what only a further try would have needed is removed.

        Raises:
          ConfigError: if this process is one of several workers.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        SEARCHED.require()
        from ctr.components.trainer.search import search

        settings = TunerSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        folder = checkpoint_folder(input_dict, output_dict, exec_properties, BEST_KEY)
        examples = input_dict[keys.EXAMPLES]
        tuning, best = search(
            settings,
            train_files=list_shards(artifact_utils.get_split_uri(examples, TRAIN_SPLIT)),
            validation_files=list_shards(artifact_utils.get_split_uri(examples, VALIDATION_SPLIT)),
            transform_uri=artifact_utils.get_single_uri(input_dict[keys.TRANSFORM_GRAPH]),
            catalogue_size=len(Catalogue.read(artifact_utils.get_single_uri(input_dict[CATALOGUE_KEY])).item_ids),
            folder=folder,
        )
        uri = artifact_utils.get_single_uri(output_dict[BEST_KEY])
        io_utils.write_string_file(os.path.join(uri, BEST_FILE), json.dumps(best))
        io_utils.write_string_file(os.path.join(uri, TUNING_FILE), tuning.model_dump_json())
        if fileio.exists(folder):
            fileio.rmtree(folder)


def checkpoint_folder(
    input_dict: Mapping[str, Sequence[types.Artifact]],
    output_dict: Mapping[str, Sequence[types.Artifact]],
    exec_properties: Mapping[str, Any],
    output: str = keys.MODEL_RUN,
) -> str:
    """Where a training, or a search, leaves off: ``<pipeline root>/Trainer/checkpoint/<digest>``.

    Not in the step's outputs: TFX's launcher removes them when the step raises, and the next run's have another number.
    The digest is of the inputs and of all parameters, as TFX's cache key is, so that a training goes on from its own
    checkpoint and from no other.
    """
    whole = hashlib.sha256()
    for key, artifacts in sorted(input_dict.items()):
        for artifact in artifacts:
            known = metadata_store_pb2.Artifact()
            known.CopyFrom(artifact.mlmd_artifact)
            # Of the record, not of what was recorded.
            known.ClearField("last_update_time_since_epoch")
            whole.update(key.encode() + known.SerializeToString(deterministic=True))
    for key, value in sorted(exec_properties.items()):
        whole.update(f"{key}={value!r}\n".encode())
    uri = artifact_utils.get_single_uri(list(output_dict[output]))
    return os.path.join(os.path.dirname(os.path.dirname(uri)), "checkpoint", whole.hexdigest())

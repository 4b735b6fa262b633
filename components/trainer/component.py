"""The Trainer step: with the inputs of TFX's own, and the catalogue and the raw impressions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter
from tfx.types.standard_component_specs import EXAMPLES_KEY, MODEL_KEY, MODEL_RUN_KEY, TRANSFORM_GRAPH_KEY
from tfx.utils import path_utils

from ctr.components.artifacts import Artifacts, ImpressionCatalogue, Properties
from ctr.components.examples.shards import list_shards
from ctr.components.settings import SETTINGS_KEY
from ctr.components.trainer.run import run
from ctr.components.trainer.train import TrainerSettings
from ctr.models.impression import TRAIN_SPLIT, VALIDATION_SPLIT

_CATALOGUE_KEY: Final = "catalogue"
_RAW_EXAMPLES_KEY: Final = "raw_examples"


class Executor(base_executor.BaseExecutor):
    """Hands the addresses of what :func:`ctr.components.trainer.run.run` reads and writes to it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: Properties) -> None:
        """Trains; once the model is written, what only a further try would have needed is removed."""
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = TrainerSettings.model_validate_json(exec_properties[SETTINGS_KEY])
        checkpoint = checkpoint_folder(input_dict, output_dict, exec_properties)
        get_uri, get_split = artifact_utils.get_single_uri, artifact_utils.get_split_uri
        examples = input_dict[EXAMPLES_KEY]
        run(
            settings,
            train_files=list_shards(get_split(examples, TRAIN_SPLIT)),
            validation_files=list_shards(get_split(examples, settings.training.choose_epoch_on)),
            raw_files=list_shards(get_split(input_dict[_RAW_EXAMPLES_KEY], VALIDATION_SPLIT)),
            transform_uri=get_uri(input_dict[TRANSFORM_GRAPH_KEY]),
            catalogue_uri=get_uri(input_dict[_CATALOGUE_KEY]),
            checkpoint_folder=checkpoint,
            model_folder=path_utils.serving_model_dir(get_uri(output_dict[MODEL_KEY])),
            model_run_uri=get_uri(output_dict[MODEL_RUN_KEY]),
        )
        if fileio.exists(checkpoint):
            fileio.rmtree(checkpoint)


def checkpoint_folder(
    input_dict: Mapping[str, Sequence[types.Artifact]],
    output_dict: Mapping[str, Sequence[types.Artifact]],
    exec_properties: Mapping[str, Any],
) -> str:
    """Where a training leaves off: ``<pipeline root>/Trainer/checkpoint/<digest>``.

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
    model_run = artifact_utils.get_single_uri(list(output_dict[MODEL_RUN_KEY]))
    return os.path.join(os.path.dirname(os.path.dirname(model_run)), "checkpoint", whole.hexdigest())


class TrainerSpec(types.ComponentSpec):
    """Interface of :class:`Trainer`."""

    PARAMETERS = {SETTINGS_KEY: ExecutionParameter(type=str)}
    INPUTS = {
        EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        TRANSFORM_GRAPH_KEY: ChannelParameter(type=standard_artifacts.TransformGraph),
        _CATALOGUE_KEY: ChannelParameter(type=ImpressionCatalogue),
        _RAW_EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {
        MODEL_KEY: ChannelParameter(type=standard_artifacts.Model),
        MODEL_RUN_KEY: ChannelParameter(type=standard_artifacts.ModelRun),
    }


class Trainer(base_component.BaseComponent):
    """Runs :func:`ctr.components.trainer.run.run`.

    Args:
      examples: transformed, splits train and validation are read.
      transform_graph: of the Transform step.
      catalogue: of the train split.
      raw_examples: the impressions before Transform, whose validation split the warmup requests are made of.
      settings: what is trained and how.

    Outputs: ``model`` and ``model_run``, as of TFX's Trainer.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        catalogue: types.BaseChannel,
        raw_examples: types.BaseChannel,
        settings: TrainerSettings,
    ) -> None:
        super().__init__(
            spec=TrainerSpec(
                examples=examples,
                transform_graph=transform_graph,
                catalogue=catalogue,
                raw_examples=raw_examples,
                settings=settings.model_dump_json(),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )

"""The Trainer step: TFX's own, with the catalogue and the raw impressions as further inputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.components.trainer import executor as tfx_executor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter
from tfx.utils import json_utils

from components.impression_gen.component import Catalogue
from components.settings import StoredImpressions, TrainingConfig
from components.trainer.run_fn import (
    CATALOGUE_KEY,
    CHECKPOINT_KEY,
    CODE_OF_KEY,
    MODEL_KEY,
    PLUGINS_KEY,
    RAW_EXAMPLES_KEY,
    SAMPLER_KEY,
    STORED_KEY,
    TRAINING_KEY,
)
from models.impression import TRAIN_SPLIT, VALIDATION_SPLIT
from models.model_config import ModelConfig
from models.registry import code_of
from models.samplers.sampler_config import SamplerConfig


class TrainerExecutor(tfx_executor.GenericExecutor):
    """TFX's, which also tells ``run_fn`` where catalogue, raw validation split and an earlier try's checkpoint lie."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains; once the model is written, what only a further try would have needed is removed."""
        super().Do(input_dict, output_dict, exec_properties)
        checkpoint = checkpoint_folder(input_dict, output_dict, exec_properties)
        if fileio.exists(checkpoint):
            fileio.rmtree(checkpoint)

    def _GetFnArgs(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        arguments = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        arguments.custom_config[CATALOGUE_KEY] = artifact_utils.get_single_uri(input_dict[CATALOGUE_KEY])
        arguments.custom_config[RAW_EXAMPLES_KEY] = artifact_utils.get_split_uri(
            input_dict[RAW_EXAMPLES_KEY], VALIDATION_SPLIT
        )
        arguments.custom_config[CHECKPOINT_KEY] = checkpoint_folder(input_dict, output_dict, exec_properties)
        return arguments


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
    model_run = artifact_utils.get_single_uri(list(output_dict[standard_component_specs.MODEL_RUN_KEY]))
    return os.path.join(os.path.dirname(os.path.dirname(model_run)), CHECKPOINT_KEY, whole.hexdigest())


class TrainerSpec(types.ComponentSpec):
    """TFX's Trainer plus ``catalogue`` and ``raw_examples``."""

    PARAMETERS = standard_component_specs.TrainerSpec.PARAMETERS
    INPUTS = {
        **standard_component_specs.TrainerSpec.INPUTS,
        CATALOGUE_KEY: ChannelParameter(type=Catalogue),
        RAW_EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = standard_component_specs.TrainerSpec.OUTPUTS


class Trainer(base_component.BaseComponent):
    """Runs :func:`components.trainer.run_fn.run_fn`.

    Args:
      examples: transformed, splits train and validation are read.
      transform_graph: of the Transform step.
      catalogue: of the train split.
      raw_examples: the impressions before Transform, whose validation split the warmup requests are made of.
      model: what is trained.
      sampler: on which negatives.
      training: how.
      stored: how the impressions were made.
      plugins: modules that register what ``model`` and ``sampler`` name.

    Outputs: ``model`` and ``model_run``, as of TFX's Trainer.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(TrainerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        catalogue: types.BaseChannel,
        raw_examples: types.BaseChannel,
        model: ModelConfig,
        sampler: SamplerConfig,
        training: TrainingConfig,
        stored: StoredImpressions,
        plugins: Sequence[str] = (),
    ) -> None:
        sections = {MODEL_KEY: model, SAMPLER_KEY: sampler, TRAINING_KEY: training, STORED_KEY: stored}
        super().__init__(
            spec=TrainerSpec(
                examples=examples,
                transform_graph=transform_graph,
                catalogue=catalogue,
                raw_examples=raw_examples,
                run_fn="components.trainer.run_fn.run_fn",
                train_args=trainer_pb2.TrainArgs(splits=[TRAIN_SPLIT]),
                eval_args=trainer_pb2.EvalArgs(splits=[training.choose_epoch_on]),
                custom_config=json_utils.dumps(
                    {key: section.model_dump_json() for key, section in sections.items()}
                    # A run without any keeps the cache key that it had.
                    | ({PLUGINS_KEY: list(plugins)} if plugins else {})
                    # Code that no module imports, so that it is part of the cache key.
                    | {CODE_OF_KEY: code_of(model, sampler)}
                ),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )

"""The Transform step: TFX's own, with the catalogue as a further input."""

from __future__ import annotations

from typing import Final

from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.proto import transform_pb2
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from ctr.components import keys
from ctr.components.artifacts import ImpressionCatalogue
from ctr.components.executors import BeamExecutor
from ctr.components.settings import SETTINGS_KEY, TransformConfig
from ctr.models.impression import SPLITS, TRAIN_SPLIT

CATALOGUE_KEY: Final = "catalogue"


class ImpressionTransformSpec(types.ComponentSpec):
    """What is used of TFX's Transform, plus ``catalogue`` and the section of the configuration."""

    PARAMETERS = {
        keys.PREPROCESSING_FN: ExecutionParameter(type=str),
        keys.SPLITS_CONFIG: ExecutionParameter(type=transform_pb2.SplitsConfig),
        keys.FORCE_TF_COMPAT_V1: ExecutionParameter(type=int),
        keys.DISABLE_STATISTICS: ExecutionParameter(type=int),
        SETTINGS_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {
        keys.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        keys.SCHEMA: ChannelParameter(type=standard_artifacts.Schema),
        CATALOGUE_KEY: ChannelParameter(type=ImpressionCatalogue),
    }
    OUTPUTS = {
        keys.TRANSFORM_GRAPH: ChannelParameter(type=standard_artifacts.TransformGraph),
        keys.TRANSFORMED_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
    }


class ImpressionTransform(base_beam_component.BaseBeamComponent):
    """Maps the ids of impressions to indices.

    Args:
      examples: impressions, splits train, validation, eval.
      schema: of the raw impression.
      catalogue: of the train split, from which the vocabularies come.
      transform: thresholds of the vocabularies.

    Outputs: ``transform_graph`` and ``transformed_examples``, as of TFX's Transform.
    """

    SPEC_CLASS = ImpressionTransformSpec
    EXECUTOR_SPEC = BeamExecutor("ctr.components.transform.executor.Executor")

    def __init__(
        self,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        catalogue: types.BaseChannel,
        transform: TransformConfig,
    ) -> None:
        transformed_examples = types.Channel(type=standard_artifacts.Examples)
        transformed_examples.matching_channel_name = keys.EXAMPLES
        super().__init__(
            spec=ImpressionTransformSpec(
                examples=examples,
                schema=schema,
                catalogue=catalogue,
                settings=transform.model_dump_json(),
                preprocessing_fn="ctr.components.transform.preprocessing.preprocessing_fn",
                splits_config=transform_pb2.SplitsConfig(analyze=[TRAIN_SPLIT], transform=list(SPLITS)),
                force_tf_compat_v1=0,
                disable_statistics=1,
                transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
                transformed_examples=transformed_examples,
            )
        )

"""The Transform step: TFX's own, with the catalogue as a further input."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import transform_pb2
from tfx.types import standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.impression_gen.component import Catalogue
from components.settings import TransformConfig
from components.transform import executor
from models.impression import SPLITS, TRAIN_SPLIT


class ImpressionTransformSpec(types.ComponentSpec):
    """TFX's Transform plus ``catalogue`` and the section of the configuration."""

    PARAMETERS = {
        **standard_component_specs.TransformSpec.PARAMETERS,
        executor.TRANSFORM_CONFIG_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {
        **standard_component_specs.TransformSpec.INPUTS,
        executor.CATALOGUE_KEY: ChannelParameter(type=Catalogue),
    }
    OUTPUTS = standard_component_specs.TransformSpec.OUTPUTS


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
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        catalogue: types.BaseChannel,
        transform: TransformConfig,
    ) -> None:
        transformed_examples = types.Channel(type=standard_artifacts.Examples)
        transformed_examples.matching_channel_name = standard_component_specs.EXAMPLES_KEY
        super().__init__(
            spec=ImpressionTransformSpec(
                examples=examples,
                schema=schema,
                catalogue=catalogue,
                transform_config=transform.model_dump_json(),
                preprocessing_fn="components.transform.preprocessing.preprocessing_fn",
                splits_config=transform_pb2.SplitsConfig(analyze=[TRAIN_SPLIT], transform=list(SPLITS)),
                force_tf_compat_v1=0,
                disable_statistics=1,
                transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
                transformed_examples=transformed_examples,
            )
        )

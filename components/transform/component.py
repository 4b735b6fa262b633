"""The Transform step: with the inputs and outputs of TFX's own, and the catalogue."""

from __future__ import annotations

from typing import Final

from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from ctr.components import keys
from ctr.components.artifacts import ImpressionCatalogue
from ctr.components.executors import BeamExecutor
from ctr.components.settings import SETTINGS_KEY, TransformConfig
from ctr.models.declared import Declared
from ctr.models.impression import declared_features, feature_modules
from ctr.models.registration import Plugin

CATALOGUE_KEY: Final = "catalogue"


class ImpressionTransformSettings(TransformConfig):
    """What the step depends on."""

    plugins: tuple[Plugin, ...] = ()
    """Modules that register features."""
    features: Declared = ()
    """Rows that the log's description declares."""


class ImpressionTransformSpec(types.ComponentSpec):
    """Interface of :class:`ImpressionTransform`."""

    PARAMETERS = {SETTINGS_KEY: ExecutionParameter(type=str)}
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
    """Maps the ids of impressions to indices, and what is declared to codes.

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
        settings = ImpressionTransformSettings(
            **dict(transform), plugins=tuple(feature_modules()), features=tuple(declared_features())
        )
        super().__init__(
            spec=ImpressionTransformSpec(
                examples=examples,
                schema=schema,
                catalogue=catalogue,
                settings=settings.model_dump_json(),
                transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
                transformed_examples=transformed_examples,
            )
        )

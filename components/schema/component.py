"""The SchemaGen step: the schema of raw impressions, from the configuration and the window of the examples."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter
from tfx.types.standard_component_specs import EXAMPLES_KEY, SCHEMA_KEY

from components.schema import executor
from components.schema.impression_schema import Ranges
from components.settings import IngestConfig


class SchemaGenSpec(types.ComponentSpec):
    """Interface of :class:`SchemaGen`."""

    PARAMETERS = {executor.RANGES_KEY: ExecutionParameter(type=str)}
    INPUTS = {EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {SCHEMA_KEY: ChannelParameter(type=standard_artifacts.Schema)}


class SchemaGen(base_component.BaseComponent):
    """Writes :func:`components.schema.impression_schema.impression_schema`; TFX's own infers one from statistics.

    Args:
      examples: from ImpressionGen, which tell their window.
      ingest: how impressions are made; only what bounds them reaches the step.

    Outputs:
      schema: as of TFX's SchemaGen.
    """

    SPEC_CLASS = SchemaGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, examples: types.BaseChannel, ingest: IngestConfig) -> None:
        ranges = Ranges.of(ingest).model_dump_json()
        schema = types.Channel(type=standard_artifacts.Schema)
        super().__init__(spec=SchemaGenSpec(examples=examples, ranges=ranges, schema=schema))

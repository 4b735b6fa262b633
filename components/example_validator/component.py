"""The ExampleValidator step: with the inputs and outputs of TFX's own."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter

from ctr.components import keys
from ctr.components.executors import PythonExecutor


class ExampleValidatorSpec(types.ComponentSpec):
    """Interface of :class:`ExampleValidator`."""

    PARAMETERS: dict[str, object] = {}
    INPUTS = {
        keys.STATISTICS: ChannelParameter(type=standard_artifacts.ExampleStatistics),
        keys.SCHEMA: ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {keys.ANOMALIES: ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


class ExampleValidator(base_component.BaseComponent):
    """Notes what of each split does not match the schema.

    Args:
      statistics: of StatisticsGen.
      schema: of SchemaGen.

    Outputs: ``anomalies``, as of TFX's ExampleValidator.
    """

    SPEC_CLASS = ExampleValidatorSpec
    EXECUTOR_SPEC = PythonExecutor("ctr.components.example_validator.executor.Executor")

    def __init__(self, statistics: types.BaseChannel, schema: types.BaseChannel) -> None:
        super().__init__(
            spec=ExampleValidatorSpec(
                statistics=statistics,
                schema=schema,
                anomalies=types.Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )

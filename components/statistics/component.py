"""The StatisticsGen step: with the input and output of TFX's own, on a sample of the users."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from ctr.components import keys
from ctr.components.executors import BeamExecutor
from ctr.components.settings import SETTINGS_KEY, StatisticsConfig


class StatisticsGenSpec(types.ComponentSpec):
    """Interface of :class:`StatisticsGen`."""

    PARAMETERS = {SETTINGS_KEY: ExecutionParameter(type=str)}
    INPUTS = {keys.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {keys.STATISTICS: ChannelParameter(type=standard_artifacts.ExampleStatistics)}


class StatisticsGen(base_beam_component.BaseBeamComponent):
    """Statistics of each split.

    Args:
      examples: impressions.
      statistics: the share of them that is read.

    Outputs: ``statistics``, as of TFX's StatisticsGen.
    """

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = BeamExecutor("ctr.components.statistics.executor.Executor")

    def __init__(self, examples: types.BaseChannel, statistics: StatisticsConfig) -> None:
        super().__init__(
            spec=StatisticsGenSpec(
                examples=examples,
                settings=statistics.model_dump_json(include={"sample_rate"}),
                statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
            )
        )

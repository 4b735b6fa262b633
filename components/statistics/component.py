"""The StatisticsGen step: TFX's own, on a sample of the users."""

from __future__ import annotations

import tensorflow_data_validation as tfdv
from tfx import types
from tfx.components.statistics_gen import component
from tfx.dsl.components.base import executor_spec

from components.settings import StatisticsConfig
from components.statistics import executor


class StatisticsGen(component.StatisticsGen):
    """Statistics of each split.

    Args:
      examples: impressions.
      statistics: the share of them that is read.

    Outputs: ``statistics``, as of TFX's StatisticsGen.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(self, examples: types.BaseChannel, statistics: StatisticsConfig) -> None:
        super().__init__(examples=examples, stats_options=tfdv.StatsOptions(sample_rate=statistics.sample_rate))

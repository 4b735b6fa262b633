"""The node that scores the trivial baselines."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.baselines import executor
from components.impression_gen.component import Catalogue


class BaselineReport(Artifact):
    """``baselines.json``: :class:`components.baselines.results.BaselineResults`."""

    TYPE_NAME = "components.BaselineReport"


class BaselinesSpec(types.ComponentSpec):
    """Interface of :class:`Baselines`."""

    PARAMETERS = {
        executor.TRAINING_IMPRESSIONS_KEY: ExecutionParameter(type=int),
        executor.SEED_KEY: ExecutionParameter(type=int),
    }
    INPUTS = {
        executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        executor.CATALOGUE_KEY: ChannelParameter(type=Catalogue),
    }
    OUTPUTS = {executor.REPORT_KEY: ChannelParameter(type=BaselineReport)}


class Baselines(base_component.BaseComponent):
    """AUC of the trivial baselines on the pairs of the eval split, see :func:`components.baselines.compute.compute`.

    Args:
      transformed_examples: impressions as Transform leaves them, splits train, validation, eval.
      catalogue: of the train split.
      training_impressions: ``evaluation.baseline_training_impressions``.
      seed: of the sample that the regression is fitted on.

    Outputs:
      report: a :class:`BaselineReport`.
    """

    SPEC_CLASS = BaselinesSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        transformed_examples: types.BaseChannel,
        catalogue: types.BaseChannel,
        training_impressions: int,
        seed: int,
    ) -> None:
        super().__init__(
            spec=BaselinesSpec(
                transformed_examples=transformed_examples,
                catalogue=catalogue,
                training_impressions=training_impressions,
                seed=seed,
                report=types.Channel(type=BaselineReport),
            )
        )

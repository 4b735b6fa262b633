"""The Trainer step: with the inputs of TFX's own, and the catalogue and the raw impressions."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from ctr.components import keys
from ctr.components.artifacts import ImpressionCatalogue
from ctr.components.executors import PythonExecutor
from ctr.components.settings import SETTINGS_KEY
from ctr.components.trainer.settings import CATALOGUE_KEY, RAW_EXAMPLES_KEY, TrainerSettings


class TrainerSpec(types.ComponentSpec):
    """Interface of :class:`Trainer`."""

    PARAMETERS = {SETTINGS_KEY: ExecutionParameter(type=str)}
    INPUTS = {
        keys.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        keys.TRANSFORM_GRAPH: ChannelParameter(type=standard_artifacts.TransformGraph),
        CATALOGUE_KEY: ChannelParameter(type=ImpressionCatalogue),
        RAW_EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {
        keys.MODEL: ChannelParameter(type=standard_artifacts.Model),
        keys.MODEL_RUN: ChannelParameter(type=standard_artifacts.ModelRun),
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
    EXECUTOR_SPEC = PythonExecutor("ctr.components.trainer.executor.Executor")

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

"""The Trainer step, with the inputs of TFX's own, the catalogue and the raw impressions; and the Tuner before it."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from ctr.components import keys
from ctr.components.artifacts import ImpressionCatalogue
from ctr.components.executors import PythonExecutor
from ctr.components.settings import SETTINGS_KEY
from ctr.components.trainer.settings import (
    BEST_KEY,
    CATALOGUE_KEY,
    HYPERPARAMETERS_KEY,
    RAW_EXAMPLES_KEY,
    TrainerSettings,
    TunerSettings,
)


class TrainerSpec(types.ComponentSpec):
    """Interface of :class:`Trainer`."""

    PARAMETERS = {SETTINGS_KEY: ExecutionParameter(type=str)}
    INPUTS = {
        keys.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        keys.TRANSFORM_GRAPH: ChannelParameter(type=standard_artifacts.TransformGraph),
        CATALOGUE_KEY: ChannelParameter(type=ImpressionCatalogue),
        RAW_EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        HYPERPARAMETERS_KEY: ChannelParameter(type=standard_artifacts.HyperParameters, optional=True),
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
      hyperparameters: of a search, in the place of what ``settings`` has; None for none.

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
        hyperparameters: types.BaseChannel | None = None,
    ) -> None:
        super().__init__(
            spec=TrainerSpec(
                examples=examples,
                transform_graph=transform_graph,
                catalogue=catalogue,
                raw_examples=raw_examples,
                hyperparameters=hyperparameters,
                settings=settings.model_dump_json(),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )


class TunerSpec(types.ComponentSpec):
    """Interface of :class:`Tuner`."""

    PARAMETERS = {SETTINGS_KEY: ExecutionParameter(type=str)}
    INPUTS = {
        keys.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        keys.TRANSFORM_GRAPH: ChannelParameter(type=standard_artifacts.TransformGraph),
        CATALOGUE_KEY: ChannelParameter(type=ImpressionCatalogue),
    }
    OUTPUTS = {BEST_KEY: ChannelParameter(type=standard_artifacts.HyperParameters)}


class Tuner(base_component.BaseComponent):
    """Runs :func:`ctr.components.trainer.search.search`; it lies here because it trains.

    Args:
      examples: transformed, splits train and validation are read.
      transform_graph: of the Transform step.
      catalogue: of the train split.
      settings: what is searched, and what is trained otherwise.

    Outputs: ``best_hyperparameters``, as of TFX's Tuner, with all trials beside: :mod:`ctr.components.tuning`.
    """

    SPEC_CLASS = TunerSpec
    EXECUTOR_SPEC = PythonExecutor("ctr.components.trainer.executor.TunerExecutor")

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        catalogue: types.BaseChannel,
        settings: TunerSettings,
    ) -> None:
        super().__init__(
            spec=TunerSpec(
                examples=examples,
                transform_graph=transform_graph,
                catalogue=catalogue,
                settings=settings.model_dump_json(),
                best_hyperparameters=types.Channel(type=standard_artifacts.HyperParameters),
            )
        )

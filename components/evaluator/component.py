"""The Evaluator step, and which model a candidate is compared with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from ctr.components import keys
from ctr.components.artifacts import BaselineReport
from ctr.components.evaluator.settings import EvaluatorSettings
from ctr.components.executors import BeamExecutor
from ctr.components.settings import SETTINGS_KEY

CANDIDATE_KEY: Final = "candidate"
BLESSINGS_KEY: Final = "model_blessing"
BASELINES_KEY: Final = "baselines"
COMPARISON_KEY: Final = "comparison"
"""Property of the outputs: the ``comparison`` of the verdict."""


class EvaluatorSpec(types.ComponentSpec):
    """Interface of :class:`Evaluator`."""

    PARAMETERS = {SETTINGS_KEY: ExecutionParameter(type=str)}
    INPUTS = {
        keys.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        BASELINES_KEY: ChannelParameter(type=BaselineReport),
        keys.MODEL: ChannelParameter(type=standard_artifacts.Model),
        keys.BASELINE_MODEL: ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {
        keys.EVALUATION: ChannelParameter(type=standard_artifacts.ModelEvaluation),
        keys.BLESSING: ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class Evaluator(base_beam_component.BaseBeamComponent):
    """Scores the eval split, computes the metrics and blesses the model or not.

    Args:
      examples: raw impressions.
      baselines: of Baselines, with the columns of the eval split.
      model: of the Trainer.
      baseline_model: that it is compared with; None for none.
      settings: what a model must reach.

    Outputs: ``evaluation`` with ``evaluation.json`` (:class:`ctr.components.scoring.evaluation.Evaluation`), the scored
    impressions and the files of TensorFlow Model Analysis, and ``blessing``, as of TFX's Evaluator. The property
    ``comparison`` of both says whether there was a comparison with a blessed model, and if not, why.
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = BeamExecutor("ctr.components.evaluator.executor.Executor")

    @staticmethod
    def parameters(settings: EvaluatorSettings) -> dict[str, str]:
        """What an execution is told of how it judges, by name."""
        return {SETTINGS_KEY: settings.to_json()}

    def __init__(
        self,
        examples: types.BaseChannel,
        baselines: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel | None,
        settings: EvaluatorSettings,
    ) -> None:
        super().__init__(
            spec=EvaluatorSpec(
                examples=examples,
                baselines=baselines,
                model=model,
                baseline_model=baseline_model,
                **self.parameters(settings),
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )


class BaselineStrategy(ResolverStrategy):
    """The latest blessed model of the time when the candidate was judged first, the same one ever after.

    A candidate that no Evaluator of these settings has judged is compared with the model that was blessed last; with
    none if there is none, or if it is the candidate itself. Each later time it is compared with that same model. So:

    * A second identical run gives the Evaluator the same inputs, which it takes from the cache, and pushes nothing.
      (TFX's LatestBlessedModelStrategy gives it what the first run has just blessed: the candidate itself, which is
      then evaluated against itself and pushed again.)
    * An old run that is repeated after a newer model was blessed keeps its old verdict, and does not take the newer
      one's place. So does the first of several models of one command that a challenger has beaten.
    * A verdict of NOT BLESSED stands, too, whatever was blessed since.
    * Under other settings of the gate, or after an edit of the Evaluator's code, a candidate is judged anew, against
      the model that was blessed last.
    * New data or a new training make a new candidate.

    ``model`` and ``model_blessing`` are resolved to one artifact each or none, ``candidate`` to none.

    Args:
      judge: JSON: the parameters by which an execution of the Evaluator is one of these settings, by name.
    """

    def __init__(self, judge: str) -> None:
        self._judge: dict[str, str] = json.loads(judge)

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """See the class; ``candidate`` holds one model, the other two all of the pipeline."""
        [candidate] = input_dict[CANDIDATE_KEY]
        models = {model.id: model for model in input_dict[keys.MODEL]}
        blessed = {
            blessing.get_int_custom_property("current_model_id"): blessing
            for blessing in sorted(input_dict[BLESSINGS_KEY], key=lambda artifact: artifact.id)
            if blessing.get_int_custom_property("blessed") == 1
        }
        judgement = next(self._judgements(store, candidate.id), None)
        if judgement is not None:
            chosen = next(_inputs(store, judgement.id, keys.BASELINE_MODEL), None)
        else:
            chosen = max(blessed.keys() & models.keys(), key=lambda model: blessed[model].id, default=None)
            chosen = None if chosen == candidate.id else chosen
        return {
            CANDIDATE_KEY: [],
            keys.MODEL: [models[chosen]] if chosen in models else [],
            BLESSINGS_KEY: [blessed[chosen]] if chosen in blessed else [],
        }

    def _judgements(self, store: MetadataStore, candidate: int) -> Iterator[mlmd.Execution]:
        """Of the candidate by an Evaluator of these settings, the newest first, where the verdict is still there."""
        events = _of_key(store.get_events_by_artifact_ids([candidate]), mlmd.Event.INPUT, keys.MODEL)
        executions = store.get_executions_by_id([event.execution_id for event in events])
        for execution in sorted(executions, key=lambda each: each.id, reverse=True):
            done = execution.last_known_state in (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)
            properties = {name: value.string_value for name, value in execution.custom_properties.items()}
            if done and self._judge.items() <= properties.items() and _outputs_exist(store, execution.id):
                yield execution


def _of_key(events: Iterable[mlmd.Event], kind: int, key: str) -> Iterator[mlmd.Event]:
    return (event for event in events if event.type == kind and event.path.steps[0].key == key)


def _inputs(store: MetadataStore, execution: int, key: str) -> Iterator[int]:
    events = store.get_events_by_execution_ids([execution])
    return (event.artifact_id for event in _of_key(events, mlmd.Event.INPUT, key))


def _outputs_exist(store: MetadataStore, execution: int) -> bool:
    # As TFX looks before it takes an execution from its cache. Without them the judgement will be made again.
    events = store.get_events_by_execution_ids([execution])
    outputs = store.get_artifacts_by_id([event.artifact_id for event in events if event.type == mlmd.Event.OUTPUT])
    return all(fileio.exists(artifact.uri) for artifact in outputs)

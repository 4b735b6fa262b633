"""The runs in an output folder, as ML Metadata has them: what each found, of what, and with which code.

As in ``runs.py``: ``ml_metadata`` alone is needed, and the folder may have been moved since.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import ValidationError

from ctr.components.examples.log_content import LogContent
from ctr.components.examples.summary import IngestSummary
from ctr.components.locks import Owner, taken_over
from ctr.components.provenance import Provenance
from ctr.components.scoring.evaluation import Evaluation
from ctr.components.scoring.reading import Judged, read_evaluation, read_judged
from ctr.components.usage import Usage
from ctr.pipeline.output.executions import NODE_CONTEXT, RUN_CONTEXT, is_active, succeeded
from ctr.pipeline.output.layout import EVALUATOR, IMPRESSIONS, PUSHER, REPORT, TRAINER, Layout
from ctr.pipeline.output.leftovers import lock_of
from ctr.pipeline.output.measured import provenance_of, usage_of
from ctr.pipeline.output.runs import NoSuchRun, opened, present_address

_DATA: Final = IMPRESSIONS[0]
CODE: Final = "code_sha256"
"""The parameter of an execution with the digest of its code, as ``pipeline/step_code.py`` adds it."""
_SHOWN: Final = 10
_T = TypeVar("_T")


@dataclass(frozen=True)
class Artifact:
    """What an execution made."""

    id: int
    type: str
    uri: str
    """Where it lies now."""
    properties: Mapping[str, Any]
    """Its custom properties."""


@dataclass(frozen=True)
class Step:
    """A node in a run."""

    node: str
    execution: int
    """Its number in ML Metadata."""
    state: str
    """As ML Metadata names it."""
    usage: Usage
    outputs: Mapping[str, Artifact]
    """By output key, the first one of each."""
    made_by: int
    """The execution that made the outputs: another one, where they came from the cache."""
    made_in: str
    """The run of that execution."""
    code: str | None
    """SHA-256 of the code that made them; None of TFX's own nodes."""
    provenance: Provenance | None
    """Of the process that made them."""
    parameters: Mapping[str, Any]
    """Of the execution."""

    @property
    def cached(self) -> bool:
        """Whether its outputs are those of an earlier run."""
        return self.state == "CACHED"


@dataclass(frozen=True)
class Run:
    """A run."""

    run_id: str
    started: dt.datetime
    """When its first node was registered."""
    steps: Mapping[str, Step]
    """By node, in the order of their start; of a node that was tried again, the last."""
    living: bool
    """Whether a process of this machine works on it, or may do so elsewhere."""

    def output(self, node: str, key: str) -> Artifact | None:
        """What a node made in this run, or an earlier one for it."""
        return self.steps[node].outputs.get(key) if node in self.steps else None

    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration, of a run that came to its report; of others nothing."""
        report = self.output(*REPORT)
        return dict(json.loads(report.properties.get("config_json", "{}"))) if report is not None else {}

    @property
    def model(self) -> str | None:
        """Its name; None of a run that did not come to the training."""
        training = self.steps.get(TRAINER)
        told = json.loads(training.parameters.get("settings", "{}")) if training is not None else {}
        name: str | None = {**told, **self.config}.get("model", {}).get("name")
        return name

    @property
    def version(self) -> int | None:
        """That it pushed, or an earlier run of the same model."""
        pushed = self.output(PUSHER, "pushed_model")
        version = pushed.properties.get("pushed_version") if pushed is not None else None
        return int(version) if version else None

    @property
    def pushed_earlier(self) -> bool:
        """Whether it was an earlier run."""
        return self.version is not None and self.steps[PUSHER].cached

    @property
    def evaluation(self) -> Evaluation | None:
        """None where there was none, or its folder was removed, or another version of this project wrote it."""
        return _read(read_evaluation, self.output(EVALUATOR, "evaluation"))

    @property
    def judged(self) -> Judged | None:
        """Of the evaluation what stands first; None as above."""
        return _read(read_judged, self.output(EVALUATOR, "evaluation"))

    @property
    def summary(self) -> IngestSummary | None:
        """Of the ingest; None as above."""
        return _read(IngestSummary.read, self.output(_DATA, "catalogue"))

    @property
    def content(self) -> LogContent | None:
        """Of the log; None as above."""
        return _read(LogContent.read, self.output(_DATA, "catalogue"))

    @property
    def verdict(self) -> str:
        """``blessed`` or ``not blessed``; of a run without a verdict how far it came."""
        for state, words in (("FAILED", "failed"), ("CANCELED", "stopped")):
            for step in self.steps.values():
                if step.state == state:
                    return f"{words} in {step.node}"
        active = next((step.node for step in self.steps.values() if step.state in ("NEW", "RUNNING")), None)
        if active is not None:
            return f"{'running' if self.living else 'killed in'} {active}"
        blessing = self.output(EVALUATOR, "blessing")
        if blessing is None:
            return "running" if self.living else "data alone" if _DATA in self.steps else "nothing ran"
        return "blessed" if blessing.properties.get("blessed") == 1 else "not blessed"

    @property
    def cached(self) -> list[str]:
        """Nodes whose results came from an earlier run."""
        return [step.node for step in self.steps.values() if step.cached]

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return sum(step.usage.seconds for step in self.steps.values())


class History:
    """All runs of an output folder.

    Args:
      layout: of the folder.

    Raises:
      NoSuchRun: if there is no metadata in it.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._database = layout.metadata_db
        with opened(layout.metadata_db) as store:
            self._executions = {execution.id: execution for execution in store.get_executions()}
            self._run_of, self._runs = _of_contexts(store, RUN_CONTEXT)
            self._node_of, _ = _of_contexts(store, NODE_CONTEXT)
            self._artifacts = {artifact.id: self._artifact(artifact) for artifact in store.get_artifacts()}
            events = store.get_events_by_execution_ids(list(self._executions)) if self._executions else []
        self._outputs: dict[int, dict[str, int]] = {}
        self._maker: dict[int, int] = {}
        for event in sorted(events, key=lambda each: each.execution_id):
            if event.type == mlmd.Event.OUTPUT:
                outputs = self._outputs.setdefault(event.execution_id, {})
                outputs.setdefault(event.path.steps[0].key, event.artifact_id)
                self._maker.setdefault(event.artifact_id, event.execution_id)

    @property
    def run_ids(self) -> list[str]:
        """In the order of their start."""
        return list(self._runs)

    def run(self, run_id: str) -> Run:
        """One run.

        Raises:
          NoSuchRun: if there is none of this name.
        """
        if run_id not in self._runs:
            raise NoSuchRun(f"{self._database}: no run {run_id!r}; {_there_are(self.run_ids, 'run')}")
        executions = [self._executions[number] for number in sorted(self._runs[run_id])]
        started = min((each.create_time_since_epoch for each in executions), default=0)
        return Run(
            run_id=run_id,
            started=dt.datetime.fromtimestamp(started / 1000, dt.timezone.utc).astimezone(),
            steps={step.node: step for step in map(self._step, executions)},
            living=any(map(is_active, executions)) and self._lives(run_id),
        )

    def runs(self, last: int | None = None) -> list[Run]:
        """The newest ones, the newest last; None is all."""
        return [self.run(run_id) for run_id in self.run_ids[-last if last else None :]]

    def pushed(self) -> dict[int, list[str]]:
        """Version -> the run that pushed it; several where models of several names were pushed in one second."""
        found: dict[int, list[str]] = {}
        for number, artifact in self._artifacts.items():
            version = artifact.properties.get("pushed_version") if artifact.type == "PushedModel" else None
            maker = self._maker.get(number)
            if version and maker in self._run_of:
                found.setdefault(int(version), []).append(self._run_of[maker])
        return dict(sorted(found.items()))

    def named(self, name: str) -> Run:
        """The run of an id, of the beginning of one that no other has, or that pushed a version.

        Raises:
          NoSuchRun: if there is none, or several.
        """
        if name in self._runs:
            return self.run(name)
        pushed = self.pushed()
        if name.isdecimal() and int(name) in pushed:
            return self.of_version(int(name))
        begins = [run_id for run_id in self.run_ids if run_id.startswith(name)]
        if len(begins) == 1:
            return self.run(begins[0])
        if begins:
            raise NoSuchRun(f"{self._database}: {name!r} is the beginning of several runs: {_listed(begins)}")
        versions = _there_are([*map(str, pushed)], "version")
        raise NoSuchRun(
            f"{self._database}: {name!r} is no run and no pushed version; {_there_are(self.run_ids, 'run')}; {versions}"
        )

    def of_version(self, version: int) -> Run:
        """The run that pushed a version.

        Raises:
          NoSuchRun: if there is none, or several.
        """
        runs = self.pushed().get(version, [])
        if len(runs) > 1:
            raise NoSuchRun(f"{self._database}: version {version} was pushed by several runs: {_listed(runs)}")
        if not runs:
            there = _there_are([*map(str, self.pushed())], "version")
            raise NoSuchRun(f"{self._database}: no run pushed version {version}; {there}")
        return self.run(runs[0])

    def _lives(self, run_id: str) -> bool:
        lock = lock_of(self._layout, run_id)
        if not os.path.exists(lock):
            # Of another machine, as a step on a cluster.
            return True
        with taken_over(lock) as owner:
            return owner is not Owner.DEAD

    def _step(self, execution: mlmd.Execution) -> Step:
        outputs = self._outputs.get(execution.id, {})
        makers = {self._maker[artifact] for artifact in outputs.values()}
        maker = min(makers, default=execution.id) if succeeded(execution) else execution.id
        made = self._executions[maker]
        parameters = {name: _value(value) for name, value in execution.custom_properties.items()}
        return Step(
            node=self._node_of.get(execution.id, "").partition(".")[2],
            execution=execution.id,
            state=mlmd.Execution.State.Name(execution.last_known_state),
            usage=usage_of(execution),
            outputs={key: self._artifacts[number] for key, number in outputs.items()},
            made_by=maker,
            made_in=self._run_of.get(maker, ""),
            code=parameters.get(CODE),
            provenance=provenance_of(made),
            parameters=parameters,
        )

    def _artifact(self, artifact: mlmd.Artifact) -> Artifact:
        properties = {name: _value(value) for name, value in artifact.custom_properties.items()}
        return Artifact(artifact.id, artifact.type, present_address(artifact.uri, self._layout), properties)


def _read(read: Callable[[str], _T], artifact: Artifact | None) -> _T | None:
    with contextlib.suppress(FileNotFoundError, ValidationError):
        return read(artifact.uri) if artifact is not None else None
    return None


def _of_contexts(store: MetadataStore, kind: str) -> tuple[dict[int, str], dict[str, list[int]]]:
    of_execution: dict[int, str] = {}
    of_context: dict[str, list[int]] = {}
    for context in sorted(store.get_contexts_by_type(kind), key=lambda each: each.id):
        of_context[context.name] = [execution.id for execution in store.get_executions_by_context(context.id)]
        of_execution.update(dict.fromkeys(of_context[context.name], context.name))
    return of_execution, of_context


def _value(value: mlmd.Value) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


def _there_are(names: Sequence[str], one: str) -> str:
    return f"there {'is' if len(names) == 1 else 'are'} {_listed(names)}" if names else f"there is no {one}"


def _listed(names: Sequence[str]) -> str:
    more = f"{len(names) - _SHOWN} earlier ones, " if len(names) > _SHOWN else ""
    return f"{more}{', '.join(names[-_SHOWN:])}"

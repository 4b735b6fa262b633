"""Which model a candidate is compared with, over sequences of runs; ML Metadata is real, the Evaluator is not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

pytestmark = pytest.mark.slow

CACHED = "cached"


@dataclass
class History:
    """Runs of Trainer, resolver and Evaluator, as TFX leaves them in ML Metadata.

    Attributes:
      folder: of the verdicts.
      models: by name; the same name is the same cached model.
      blessings: in their order.
      judged: what TFX's cache knows: candidate, baseline and settings -> the verdict's artifact.
    """

    folder: Path
    models: dict[str, Any] = field(default_factory=dict)
    blessings: list[Any] = field(default_factory=list)
    judged: dict[tuple[int, int | None, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        connection = mlmd.ConnectionConfig()
        connection.fake_database.SetInParent()
        self.store = MetadataStore(connection)
        self.artifact_type = self.store.put_artifact_type(mlmd.ArtifactType(name="any"))
        self.evaluator_type = self.store.put_execution_type(mlmd.ExecutionType(name="Evaluator"))
        self.other_type = self.store.put_execution_type(mlmd.ExecutionType(name="Pusher"))

    def run(self, name: str, settings: str = "a", blessed: bool = True) -> tuple[str, str | None]:
        """One run: whether the verdict was cached or new, and what the candidate was compared with."""
        from tfx.types.standard_artifacts import Model

        from ctr.components.evaluator.component import BaselineStrategy

        if name not in self.models:
            self.models[name] = self._artifact(Model())
        candidate = self.models[name]
        resolved = BaselineStrategy(json.dumps({"settings": settings})).resolve_artifacts(
            self.store,
            {"candidate": [candidate], "model": list(self.models.values()), "model_blessing": self.blessings},
        )
        assert resolved["candidate"] == []
        baseline = resolved["model"][0] if resolved["model"] else None
        key = (candidate.id, baseline.id if baseline else None, settings)
        known = self.judged.get(key)
        cached = known is not None and Path(known.uri).exists()
        verdict = known if cached else self._verdict(candidate, blessed)
        self.judged[key] = verdict
        inputs = {"model": candidate} | ({"baseline_model": baseline} if baseline else {})
        state = mlmd.Execution.CACHED if cached else mlmd.Execution.COMPLETE
        self._execution(self.evaluator_type, state, inputs, verdict, {"settings": settings, "other": "x"})
        # Steps of other kinds use the model, too.
        self._execution(self.other_type, state, {"model": candidate}, verdict, {})
        name_of = {model.id: name for name, model in self.models.items()}
        return CACHED if cached else "new", name_of[baseline.id] if baseline else None

    def _verdict(self, candidate: Any, blessed: bool) -> Any:
        from tfx.types.standard_artifacts import ModelBlessing

        verdict = ModelBlessing()
        verdict.set_int_custom_property("current_model_id", candidate.id)
        verdict.set_int_custom_property("blessed", int(blessed))
        self._artifact(verdict)
        self.blessings.append(verdict)
        return verdict

    def _artifact(self, artifact: Any) -> Any:
        count = len(self.store.get_artifacts())
        artifact.uri = str(self.folder / str(count))
        Path(artifact.uri).mkdir()
        [artifact.id] = self.store.put_artifacts([mlmd.Artifact(type_id=self.artifact_type, uri=artifact.uri)])
        return artifact

    def _execution(self, kind: int, state: int, inputs: dict[str, Any], output: Any, settings: dict[str, str]) -> None:
        execution = mlmd.Execution(type_id=kind, last_known_state=state)
        for name, value in settings.items():
            execution.custom_properties[name].string_value = value
        [execution_id] = self.store.put_executions([execution])
        events = []
        for way, key, artifact in [
            *((mlmd.Event.INPUT, key, artifact) for key, artifact in inputs.items()),
            (mlmd.Event.OUTPUT, "blessing", output),
        ]:
            event = mlmd.Event(type=way, artifact_id=artifact.id, execution_id=execution_id)
            event.path.steps.add().key = key
            event.path.steps.add().index = 0
            events.append(event)
        self.store.put_events(events)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_a_first_model_has_nothing_to_be_compared_with(history: History) -> None:
    assert history.run("one") == ("new", None)


def test_an_identical_run_finds_what_the_first_one_found(history: History) -> None:
    assert history.run("one") == ("new", None)
    assert history.run("one") == (CACHED, None)
    assert history.run("two") == ("new", "one")
    assert history.run("two") == (CACHED, "one")


def test_an_old_run_that_is_repeated_does_not_take_a_newer_models_place(history: History) -> None:
    history.run("one")
    history.run("two")
    assert history.run("one") == (CACHED, None)
    assert history.run("two") == (CACHED, "one")
    assert history.run("three") == ("new", "two")


@pytest.mark.parametrize("better", [True, False])
def test_the_models_of_one_command_are_repeated_as_they_were(history: History, better: bool) -> None:
    for state in ("new", CACHED, CACHED):
        assert history.run("din") == (state, None)
        assert history.run("challenger", settings="no drop", blessed=better) == (state, "din")


def test_a_refusal_stands_whatever_was_blessed_since(history: History) -> None:
    history.run("one")
    assert history.run("two", blessed=False) == ("new", "one")
    assert history.run("three") == ("new", "one")
    assert history.run("two") == (CACHED, "one")


def test_other_settings_judge_anew_and_by_what_was_blessed_last(history: History) -> None:
    history.run("one")
    history.run("two")
    assert history.run("one", settings="b", blessed=False) == ("new", "two")
    assert history.run("two", settings="b") == ("new", None)
    assert history.run("one", settings="b") == (CACHED, "two")


def test_the_latest_is_the_one_that_was_blessed_last_and_not_the_newest(history: History) -> None:
    history.run("one", blessed=False)
    history.run("two")
    assert history.run("one", settings="b") == ("new", "two")
    assert history.run("three") == ("new", "one")


def test_a_verdict_that_is_gone_does_not_count(history: History) -> None:
    history.run("one")
    history.run("two")
    Path(history.blessings[0].uri).rmdir()
    assert history.run("one") == ("new", "two")


def test_the_judge_is_known_by_what_the_evaluator_has_on_record(tmp_path: Path) -> None:
    from tfx.dsl.components.common.resolver import RESOLVER_CONFIG

    from ctr.pipeline.dag import create_pipeline
    from ctr.pipeline.settings.pipeline_config import load_preset

    config = load_preset("demo").with_overrides({"data": "/log.csv", "output": str(tmp_path)})
    nodes = {node.id: node for node in create_pipeline(config, data_must_exist=False).components}
    judge = json.loads(nodes["LatestBlessedModel"].exec_properties[RESOLVER_CONFIG]["judge"])
    recorded = nodes["Evaluator"].exec_properties
    assert judge == {name: recorded[name] for name in ("settings", "code_sha256")}

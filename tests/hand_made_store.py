"""ML Metadata as TFX's launcher fills it, and the files of runs, made by hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from card_facts import DIGEST, make_content, make_evaluation, make_provenance, make_summary
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from ctr.components.examples.log_content import LOG_FILE
from ctr.components.examples.summary import SUMMARY_FILE
from ctr.components.scoring.evaluation import EVALUATION_FILE
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.measured import CPU_SECONDS, PEAK_MEMORY, PROVENANCE, SECONDS
from ctr.pipeline.settings.pipeline_config import load_preset

State = mlmd.Execution


@dataclass(frozen=True)
class Made:
    """An output of an execution."""

    uri: str
    key: str = "examples"
    type: str = "Examples"
    properties: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """Writes executions.

    Args:
      file: of SQLite.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = mlmd.ConnectionConfig()
        connection.sqlite.filename_uri = str(file)
        connection.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = MetadataStore(connection)
        self.run_type = self.store.put_context_type(mlmd.ContextType(name="pipeline_run"))
        self.node_type = self.store.put_context_type(mlmd.ContextType(name="node"))
        self.execution_type = self.store.put_execution_type(mlmd.ExecutionType(name="any"))

    def _context(self, type_id: int, name: str) -> mlmd.Context:
        found = [c for c in self.store.get_contexts() if (c.type_id, c.name) == (type_id, name)]
        if found:
            return found[0]
        [context_id] = self.store.put_contexts([mlmd.Context(type_id=type_id, name=name)])
        [context] = self.store.get_contexts_by_id([context_id])
        return context

    def add(
        self,
        run: str,
        node: str,
        state: int,
        made: str | Iterable[Made] = (),
        properties: Mapping[str, Any] | None = None,
    ) -> int:
        """An execution of a node and its outputs, or the address of one; what lies there already is taken as it is.

        Returns:
          Its number.
        """
        execution = mlmd.Execution(type_id=self.execution_type, last_known_state=state)
        _set(execution, properties or {})
        outputs = [self._output(each) for each in ((Made(made),) if isinstance(made, str) else made)]
        contexts = [self._context(self.run_type, run), self._context(self.node_type, f"ctr.{node}")]
        number: int = self.store.put_execution(execution, outputs, contexts)[0]
        return number

    def _output(self, made: Made) -> tuple[mlmd.Artifact, mlmd.Event]:
        event = mlmd.Event(type=mlmd.Event.OUTPUT)
        event.path.steps.add().key = made.key
        event.path.steps.add().index = 0
        type_id = self.store.put_artifact_type(mlmd.ArtifactType(name=made.type))
        known = [artifact for artifact in self.store.get_artifacts() if artifact.uri == made.uri]
        artifact = known[0] if known else mlmd.Artifact(type_id=type_id, uri=made.uri)
        _set(artifact, made.properties)
        return artifact, event


def _set(of: Any, properties: Mapping[str, Any]) -> None:
    kinds = {str: "string_value", int: "int_value", float: "double_value"}
    for name, value in properties.items():
        setattr(of.custom_properties[name], kinds[type(value)], value)


def past_run(
    store: Store,
    layout: Layout,
    run_id: str,
    *,
    version: int | None = None,
    blessed: bool = True,
    auc: float = 0.8912,
    digest: str = DIGEST,
    cached: Collection[str] = (),
    changes: Sequence[str] = (),
) -> None:
    """A run that came to its report, with the files that are read of it; what is cached is that of the first run."""
    config = load_preset("demo", changes).with_overrides({"data": "/data/log.csv", "output": layout.output})
    name = config.model.name
    pushed = {"pushed_version": str(version), "pushed_destination": f"{layout.model_base('ctr')}/{version}"}
    content, summary = make_content(digest=digest).model_dump_json(), make_summary().model_dump_json()
    evaluation = make_evaluation(blessed, auc).model_dump_json()

    def run(node: str, *outputs: Made, files: Mapping[str, str] | None = None) -> None:
        # TFX names them <pipeline root>/<node>/<output>/<execution>.
        number = 1 + len(store.store.get_executions())
        if node in cached:
            number = min(int(a.uri.split("/")[-1]) for a in store.store.get_artifacts() if f"/{node}/" in a.uri)
        made = [Made(f"{layout.artifacts}/{node}/{o.key}/{number}", o.key, o.type, o.properties) for o in outputs]
        properties: dict[str, Any] = {"code_sha256": f"code of {name if node == 'Trainer' else node}"}
        if node not in cached:
            properties[PROVENANCE] = make_provenance().model_dump_json()
            for each in made:
                Path(each.uri).mkdir(parents=True)
            for file, text in (files or {}).items():
                Path(made[0].uri, file).write_text(text)
        if node == "Trainer":
            properties |= {SECONDS: 29.5, CPU_SECONDS: 51.25, PEAK_MEMORY: 2_000_000_000}
        store.add(run_id, node, State.CACHED if node in cached else State.COMPLETE, made, properties)

    run(
        "ImpressionGen",
        Made("", "catalogue", "ctr.ImpressionCatalogue"),
        Made("", "examples"),
        files={LOG_FILE: content, SUMMARY_FILE: summary},
    )
    run("Trainer", Made("", "model", "Model"))
    run(
        "Evaluator",
        Made("", "evaluation", "ModelEvaluation"),
        Made("", "blessing", "ModelBlessing", {"blessed": int(blessed)}),
        files={EVALUATION_FILE: evaluation},
    )
    run("Pusher", Made("", "pushed_model", "PushedModel", {} if version is None else pushed))
    run("RunReport", Made("", "report", "ctr.RunReport", {"config_json": config.to_json()}))

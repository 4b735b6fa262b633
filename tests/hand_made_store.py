"""ML Metadata as TFX's launcher fills it, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

State = mlmd.Execution


class History:
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
        self.artifact_type = self.store.put_artifact_type(mlmd.ArtifactType(name="Examples"))

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
        uri: str | None = None,
        key: str = "examples",
        of_execution: Mapping[str, Any] = {},
        of_artifact: Mapping[str, Any] = {},
    ) -> int:
        """An execution of a node, with one output where a URI is given: the same as before if there is one of it.

        Returns:
          Its number.
        """
        execution = mlmd.Execution(type_id=self.execution_type, last_known_state=state)
        _set(execution, of_execution)
        outputs = []
        if uri is not None:
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add().key = key
            event.path.steps.add().index = 0
            known = [a for a in self.store.get_artifacts() if a.uri == uri]
            artifact = known[0] if known else mlmd.Artifact(type_id=self.artifact_type, uri=uri)
            _set(artifact, of_artifact)
            outputs = [(artifact, event)]
        contexts = [self._context(self.run_type, run), self._context(self.node_type, f"ctr.{node}")]
        number: int = self.store.put_execution(execution, outputs, contexts)[0]
        return number


def _set(of: Any, properties: Mapping[str, Any]) -> None:
    kinds = {str: "string_value", int: "int_value", float: "double_value"}
    for name, value in properties.items():
        setattr(of.custom_properties[name], kinds[type(value)], value)

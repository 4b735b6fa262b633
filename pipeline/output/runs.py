"""What ML Metadata knows of the runs in an output folder; needs ``ml_metadata`` alone, not TFX.

ML Metadata keeps the absolute addresses of artifacts. In an output folder that was moved, copied or is mounted
elsewhere they name the old place, so here an artifact that lies in its metadata's folder is taken from there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from ctr.components.usage import Usage
from ctr.models.errors import CtrError
from ctr.pipeline.output.executions import node_context, of_node, of_run, succeeded
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.measured import usage_of


class NoSuchRun(CtrError):
    """The output folder holds no run, or not what was asked of it; the message says which."""


@dataclass(frozen=True)
class NodeRun:
    """One node in one run."""

    node: str
    """The node's id in the pipeline."""
    state: str
    """``COMPLETE``, ``CACHED``, ``FAILED``, ``RUNNING``, ... as ML Metadata names it."""
    usage: Usage
    """What it took in this run."""
    outputs: dict[str, str]
    """Output key -> address of its (first) artifact."""
    succeeded: bool
    """Whether they may be used."""

    @property
    def cached(self) -> bool:
        """Whether its outputs are those of an earlier run."""
        return self.state == "CACHED"


def node_runs(metadata_db: str, pipeline_name: str, run_id: str) -> list[NodeRun]:
    """The nodes of one run, in the order of their start, from a SQLite file of ML Metadata.

    Raises:
      NoSuchRun: if there is no such run.
    """
    with opened(metadata_db) as store:
        found = node_runs_in(store, pipeline_name, run_id, _layout(metadata_db))
    if not found:
        raise NoSuchRun(f"{metadata_db}: no run {run_id!r}")
    return found


def node_runs_in(store: MetadataStore, pipeline_name: str, run_id: str, layout: Layout | None = None) -> list[NodeRun]:
    """As :func:`node_runs`, of a store that is open; none where there is no such run.

    Without the layout of the output folder, which may have been moved, all addresses are taken as they are.
    """
    executions = sorted(of_run(store, run_id), key=lambda e: e.id)
    return [_node_run(store, pipeline_name, execution, layout) for execution in executions]


def latest_output(metadata_db: str, pipeline_name: str, node: str, key: str) -> str:
    """The address of a node's newest output over all runs.

    Raises:
      NoSuchRun: if the node has not succeeded in any run.
    """
    with opened(metadata_db) as store:
        for execution in sorted(of_node(store, pipeline_name, node), key=lambda e: e.id, reverse=True):
            run = _node_run(store, pipeline_name, execution, _layout(metadata_db))
            if run.succeeded and key in run.outputs:
                return run.outputs[key]
    raise NoSuchRun(f"{metadata_db}: {node} of pipeline {pipeline_name!r} has not succeeded in any run")


def adopt_moved_artifacts(metadata_db: str) -> tuple[int, str]:
    """Makes the metadata of a folder that was moved or copied name the artifacts that lie in it.

    A run needs it: TFX goes by the addresses in the metadata, as that of the blessed model to compare with. There may
    be no such file yet.

    Returns:
      How many artifacts were named elsewhere, and the output folder of the first of them then; (0, "") for none.
    """
    if not os.path.exists(metadata_db):
        return 0, ""
    layout = _layout(metadata_db)
    with opened(metadata_db, mlmd.SqliteMetadataSourceConfig.READWRITE) as store:
        moved, before = [], ""
        for artifact in store.get_artifacts():
            address = present_address(artifact.uri, layout)
            if address != artifact.uri:
                before = before or os.path.dirname(artifact.uri.rsplit("/", 3)[0])
                artifact.uri = address
                moved.append(artifact)
        if moved:
            store.put_artifacts(moved)
    return len(moved), before


@contextlib.contextmanager
def opened(metadata_db: str, mode: int = mlmd.SqliteMetadataSourceConfig.READONLY) -> Iterator[MetadataStore]:
    """A SQLite file of ML Metadata.

    Raises:
      NoSuchRun: if there is none.
    """
    if not os.path.exists(metadata_db):
        raise NoSuchRun(f"{metadata_db}: no such file; has a pipeline run with this --output?")
    connection = mlmd.ConnectionConfig()
    connection.sqlite.filename_uri = metadata_db
    connection.sqlite.connection_mode = mode
    yield MetadataStore(connection)


def _layout(metadata_db: str) -> Layout:
    return Layout(os.path.dirname(os.path.dirname(metadata_db)))


def present_address(uri: str, layout: Layout) -> str:
    """Where an artifact lies now, whose folder may have been moved since its address was written down."""
    # TFX names them <pipeline root>/<node>/<output>/<execution>.
    below = uri.rsplit("/", 3)[1:]
    own = os.path.join(layout.artifacts, *below)
    return own if len(below) == 3 and below[2].isdecimal() and os.path.exists(own) else uri


def _node_run(store: MetadataStore, pipeline_name: str, execution: mlmd.Execution, layout: Layout | None) -> NodeRun:
    events = [e for e in store.get_events_by_execution_ids([execution.id]) if e.type == mlmd.Event.OUTPUT]
    uris = {a.id: a.uri for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    outputs: dict[str, str] = {}
    for event in events:
        uri = uris[event.artifact_id]
        outputs.setdefault(event.path.steps[0].key, uri if layout is None else present_address(uri, layout))
    return NodeRun(
        node=node_context(store, execution).removeprefix(f"{pipeline_name}."),
        state=mlmd.Execution.State.Name(execution.last_known_state),
        usage=usage_of(execution),
        outputs=outputs,
        succeeded=succeeded(execution),
    )

"""Marks the executions of a run that was ended; needs ``ml_metadata`` alone, not TFX.

``python -m ctr.pipeline.output.executions`` is what a process that was told to end becomes
(``ctr.pipeline.process.endings``).
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from typing import Final

from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from ctr.models.section import Record
from ctr.pipeline.output.connection import connection
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.endings import EXIT_CODE
from ctr.pipeline.settings.metadata import MetadataConfig

RUN_CONTEXT: Final = "pipeline_run"
NODE_CONTEXT: Final = "node"

_ACTIVE: Final = (mlmd.Execution.NEW, mlmd.Execution.RUNNING)
_SECONDS: Final = 3.0
"""What marking may take; a database that cannot be reached must not keep a process that was told to end."""


def of_run(store: MetadataStore, run_id: str, node: str | None = None) -> list[mlmd.Execution]:
    """The executions of a run, or of one of its nodes; none where the run is not known."""
    run = store.get_context_by_type_and_name(RUN_CONTEXT, run_id)
    executions = store.get_executions_by_context(run.id) if run is not None else []
    return [e for e in executions if node is None or node_context(store, e).endswith(f".{node}")]


def of_node(store: MetadataStore, pipeline_name: str, node: str) -> list[mlmd.Execution]:
    """The executions of a node in all runs of a pipeline."""
    context = store.get_context_by_type_and_name(NODE_CONTEXT, f"{pipeline_name}.{node}")
    return store.get_executions_by_context(context.id) if context is not None else []


def node_context(store: MetadataStore, execution: mlmd.Execution) -> str:
    """``<pipeline>.<node>`` of an execution."""
    name: str = next(c.name for c in store.get_contexts_by_execution(execution.id) if c.type == NODE_CONTEXT)
    return name


def is_active(execution: mlmd.Execution) -> bool:
    """Whether it says of itself that somebody works on it."""
    return execution.last_known_state in _ACTIVE


def succeeded(execution: mlmd.Execution) -> bool:
    """Whether its outputs may be used."""
    return execution.last_known_state in (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)


def mark(store: MetadataStore, executions: list[mlmd.Execution], state: int) -> None:
    """Gives executions another state."""
    for execution in executions:
        execution.last_known_state = state
    if executions:
        store.put_executions(executions)


class Canceled(Record):
    """What was told to end."""

    metadata: MetadataConfig
    output: str
    run_id: str
    node: str | None = None
    """Of a step; None is all of the run."""

    def command(self) -> list[str]:
        """Arguments of Python: marks the executions CANCELED that are under way."""
        return ["-m", "ctr.pipeline.output.executions", self.model_dump_json()]

    def mark(self) -> None:
        """Does it."""
        store = MetadataStore(connection(self.metadata, Layout(self.output)))
        mark(store, [e for e in of_run(store, self.run_id, self.node) if is_active(e)], mlmd.Execution.CANCELED)


def _main(canceled: Canceled) -> int:
    child = os.fork()
    if child == 0:
        try:
            canceled.mark()
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(0)
    end = time.monotonic() + _SECONDS
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            print(f"the executions of run {canceled.run_id} were not marked within {_SECONDS:g} s", file=sys.stderr)
            break
        time.sleep(0.01)
    return int(os.environ[EXIT_CODE])


if __name__ == "__main__":
    sys.exit(_main(Canceled.model_validate_json(sys.argv[1])))

"""One step of the compiled pipeline: one node of the DAG, launched by TFX's own launcher.

The step compiles the whole DAG again from its configuration, so that inputs, resolvers, drivers and caching are
TFX's and are those of a run on one machine. What steps share is ML Metadata and the output folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.process.endings import RUN_PROCESS, last_words
from ctr.pipeline.process.errors import reason
from ctr.pipeline.process.imports import left_out
from ctr.pipeline.runners.runner import Runner
from ctr.pipeline.settings.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from tfx.orchestration.metadata import Metadata

    from ctr.pipeline.dag import Outcome


_logger = logging.getLogger(__name__)

WITHOUT_BEAM: Final = frozenset(
    {
        *("SchemaGen", "LastApproval", "AnomalyGate", "Baselines"),
        *("LatestBlessedModel", "SkewCheck", "Pusher", "RunReport"),
    }
)
"""Nodes whose processes import TFX as it is where Beam is not installed: that is half the time of their imports, with
Google's clients, which Beam imports. (Not ExampleValidator: TensorFlow Data Validation needs Beam.)"""


class StepFailed(CtrError):
    """A step that did not do its work; the message names it and says why."""


@dataclass(frozen=True)
class StepResult:
    """A step that came to its end."""

    cached: bool
    """Whether its outputs are those of an earlier run."""
    outputs: dict[str, str]
    """Output key -> address of its (first) artifact."""
    outcome: Outcome | None = None
    """What the run found, of the step that gathers it; None of the others."""


@dataclass(frozen=True)
class StepRunner(Runner[StepResult]):
    """Runs one node; the nodes above it must have run under the same ``run_id``.

    A step that is run once more under the same id takes up its own execution, and is not repeated where it had
    succeeded.
    """

    node: str
    """The node's id."""
    run_id: str
    """The same in all steps of a run, and of no other run."""
    alone: bool = False
    """Whether this process runs no other node, and so imports nothing that this one does not need."""

    def check(self, config: PipelineConfig) -> None:
        """That the run's id was filled in."""
        if not self.run_id or "{{" in self.run_id:
            raise ConfigError(
                f"run id: {self.run_id!r} was not filled in; steps need Kubeflow Pipelines 2.5.0 or newer, or a "
                "--run-id"
            )

    def run(self, config: PipelineConfig) -> StepResult:
        """Runs the node.

        Raises:
          ConfigError: if there is no such node, or no pipeline for the configuration.
          StepFailed: if the node fails, or cannot run because an input is missing.
        """
        self.check(config)
        node, run_id = self.node, self.run_id
        with left_out(config.to_json(), beam=node in WITHOUT_BEAM) if self.alone else contextlib.nullcontext():
            # Before Beam: at exit modules end in reverse, and Beam keeps functions of TensorFlow, which then complain.
            import tensorflow  # noqa: F401
            from tfx.orchestration import metadata as tfx_metadata
            from tfx.orchestration.local import runner_utils
            from tfx.orchestration.portable.launcher import Launcher

            from ctr.pipeline.dag import compile_dag
        from ctr.pipeline.output.connection import connection
        from ctr.pipeline.output.executions import Canceled
        from ctr.pipeline.output.measured import measured

        dag = compile_dag(config, run_id, only=node).ir
        deployment = runner_utils.extract_local_deployment_config(dag)
        store = tfx_metadata.Metadata(connection(config.metadata, Layout(config.output)))
        launcher = Launcher(
            pipeline_node=next(n.pipeline_node for n in dag.nodes if n.pipeline_node.node_info.id == node),
            mlmd_connection=store,
            pipeline_info=dag.pipeline_info,
            pipeline_runtime_spec=dag.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, node),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node),
        )
        try:
            with store as handle:
                # A client of the gRPC service connects with its first question.
                handle.store.get_context_types()
        except Exception as error:
            raise StepFailed(f"{node} could not connect to {config.metadata}: {reason(error)}") from error
        started = time.monotonic()

        def line() -> str:
            seconds = time.monotonic() - started
            return f"interrupted during {node} after {seconds:.1f} s; the next try of the step goes on\n"

        os.environ[RUN_PROCESS] = str(os.getpid())
        canceled = Canceled(metadata=config.metadata, output=config.output, run_id=run_id, node=node)
        try:
            with last_words(line, canceled.command()), measured(config.metadata, Layout(config.output), run_id, node):
                launcher.launch()
        except Exception as error:
            logging.exception("%s failed", node)
            raise StepFailed(f"{node} failed: {reason(error)}") from error
        return _result(config, node, run_id, store)


def _result(config: PipelineConfig, node: str, run_id: str, store: Metadata) -> StepResult:
    from ctr.pipeline.dag import REPORTS, outcome
    from ctr.pipeline.output.runs import node_runs_in

    with store as handle:
        found = {run.node: run for run in node_runs_in(handle.store, config.pipeline_name, run_id)}
    # TFX's launcher logs an input that cannot be resolved and goes on without the node.
    if node not in found or not found[node].succeeded:
        raise StepFailed(
            f"{node} did not run: an input could not be resolved; the steps before it must have run as {run_id!r} "
            f"in {config.metadata}"
        )
    return StepResult(found[node].cached, found[node].outputs, outcome(found) if node == REPORTS else None)

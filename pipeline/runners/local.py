"""Runs the DAG on this machine, with BeamDagRunner or LocalDagRunner, and says what came of it.

TFX is imported while the run's output already goes to its log: the import takes 20 s and is not silent.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from ctr.components.files import absolute
from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.leftovers import clear, living
from ctr.pipeline.process.endings import RUN_PROCESS, last_words
from ctr.pipeline.process.errors import reason
from ctr.pipeline.process.imports import left_out
from ctr.pipeline.process.progress import ComponentProgress
from ctr.pipeline.process.terminal import Terminal, output_to_log
from ctr.pipeline.runners.runner import Runner
from ctr.pipeline.settings.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from ctr.components.usage import Usage
    from ctr.pipeline.dag import DataOutputs, Report
    from ctr.pipeline.output.runs import NodeRun


_logger = logging.getLogger(__name__)


class RunFailed(CtrError):
    """A run that did not come to its end: the node that failed ("pipeline" where it was none), why, and the log."""

    def __init__(self, component: str, reason: str, log: str) -> None:
        super().__init__(f"{component} failed: {reason}\nThe whole log: {log}")


@dataclass(frozen=True)
class RunResult:
    """A run that came to its end."""

    run_id: str
    """Names the run in ML Metadata, and its log."""
    report: Report
    """The numbers of the run."""
    usage: dict[str, Usage]
    """What each component took, in the order they ran; next to nothing for what was cached."""
    cached: frozenset[str]
    """Components whose results came from an earlier run."""
    pushed_earlier: bool
    """Whether it was an earlier run that pushed the version."""
    log: str
    """The log file."""


@dataclass(frozen=True)
class LocalRunner(Runner[RunResult]):
    """Runs the pipeline on this machine, and shows each component on standard error, as much as ``terminal`` says."""

    terminal: Terminal = field(default_factory=Terminal)

    def check(self, config: PipelineConfig) -> None:
        """That metadata is kept in SQLite."""
        if config.metadata.kind != "sqlite":
            raise ConfigError(
                f"metadata.kind: runs on one machine keep it in SQLite under their output, not in {config.metadata}"
            )

    def run(self, config: PipelineConfig) -> RunResult:
        """Runs the pipeline once, for one model; relative paths are read from the working directory.

        Raises:
          ConfigError: if there is no pipeline for the configuration, e.g. because the data is missing.
          RunFailed: if a component fails, or cannot run because an input is missing.
        """
        run_id, log, nodes = self._run_nodes(config, config.model.name)
        from ctr.pipeline.dag import outcome

        report, pushed_earlier = outcome(nodes)
        return RunResult(
            run_id=run_id,
            report=report,
            usage={name: node.usage for name, node in nodes.items()},
            cached=frozenset(name for name, node in nodes.items() if node.cached),
            pushed_earlier=pushed_earlier,
            log=log,
        )

    def prepare_data(self, config: PipelineConfig) -> DataOutputs:
        """Runs the steps before training, from the cache where their settings have not changed. Raises as ``run``."""
        _, _, nodes = self._run_nodes(config, "data", before_training=True)
        from ctr.pipeline.dag import data_outputs

        return data_outputs(nodes)

    def _run_nodes(
        self, config: PipelineConfig, label: str, before_training: bool = False
    ) -> tuple[str, str, dict[str, NodeRun]]:
        self.check(config)
        layout = Layout(absolute(config.output))
        run_id = f"{dt.datetime.now():%Y%m%d-%H%M%S-%f}-{label}"
        log = os.path.join(layout.logs, f"{run_id}.log")
        _clear(layout, self.terminal)
        with living(layout, run_id), output_to_log(log, self.terminal) as stream:
            _adopt_moved_artifacts(layout, self.terminal)
            return run_id, log, _run_dag(config, before_training, run_id, log, self.terminal, stream)


def _clear(layout: Layout, terminal: Terminal) -> None:
    try:
        cleared = clear(layout)
    except OSError as error:
        terminal.note(f"not cleared, what earlier runs left unfinished: {reason(error)}")
        return
    if cleared:
        terminal.note(f"cleared, what earlier runs left unfinished: {cleared}")


def _adopt_moved_artifacts(layout: Layout, terminal: Terminal) -> None:
    from ctr.pipeline.output.runs import adopt_moved_artifacts

    count, before = adopt_moved_artifacts(layout.metadata_db)
    if count:
        terminal.note(
            f"The runs in this folder were made at {before}. It is now at {layout.output}, and their {count} artifacts "
            "are taken from here; most steps run again, because TFX's cache compares addresses."
        )


def _run_dag(
    config: PipelineConfig, before_training: bool, run_id: str, log: str, terminal: Terminal, stream: TextIO
) -> dict[str, NodeRun]:
    with terminal.loading(), left_out(config.to_json()):
        import absl.logging
        import tensorflow  # noqa: F401 (before Beam, as in dag.py)
        from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner

        from ctr.components.direct_beam import keep_beam_here
        from ctr.pipeline.dag import compile_dag
        from ctr.pipeline.output.executions import Canceled
        from ctr.pipeline.output.measured import measured
        from ctr.pipeline.output.runs import node_runs

        dag = compile_dag(config, run_id, before_training=before_training)
    config = dag.config
    keep_beam_here()
    runner = BeamDagRunner() if config.runner == "beam" else LocalDagRunner()

    dag.claim_devices()
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.INFO)
    progress = ComponentProgress(
        stream,
        total=len(dag.nodes),
        in_place=not terminal.verbose,
        around=lambda node: measured(config.metadata, Layout(config.output), run_id, node),
    )
    root_logger = logging.getLogger()
    root_logger.addHandler(progress)
    os.environ[RUN_PROCESS] = str(os.getpid())
    canceled = Canceled(metadata=config.metadata, output=config.output, run_id=run_id)
    try:
        with last_words(progress.interrupted, canceled.command()):
            runner.run_with_ir(dag.ir)
    except Exception as error:
        _logger.exception("The run failed")
        progress.fail()
        raise RunFailed(progress.running or "pipeline", reason(error), log) from error
    finally:
        root_logger.removeHandler(progress)
        absl.logging.set_verbosity(verbosity)

    nodes = {node.node: node for node in node_runs(Layout(config.output).metadata_db, config.pipeline_name, run_id)}
    for name in (node.id for node in dag.nodes):
        # TFX's launcher logs an input that cannot be resolved and goes on without the node.
        if name not in nodes or not nodes[name].succeeded:
            raise RunFailed(name, "it did not run: an input could not be resolved", log)
    return nodes

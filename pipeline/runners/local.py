"""Runs the DAG on this machine, with BeamDagRunner or LocalDagRunner, and says what came of it.

TFX is imported while the run's output already goes to its log: the import takes 20 s and is not silent.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, TypeAlias

from models.errors import ConfigError, CtrError
from pipeline.output.layout import Layout
from pipeline.output.leftovers import clear, living
from pipeline.process.endings import RUN_PROCESS, last_words
from pipeline.process.errors import reason
from pipeline.process.progress import ComponentProgress
from pipeline.process.terminal import Terminal, output_to_log
from pipeline.settings.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from tfx.orchestration.pipeline import Pipeline

    from components.run_report.report import Report
    from pipeline.output.runs import NodeRun


Factory: TypeAlias = "Callable[[PipelineConfig], Pipeline]"


class RunFailed(CtrError):
    """A run that did not come to its end.

    Attributes:
      component: the node that failed; "pipeline" where it was none of them.
      reason: what was wrong, in the words of the error.
      log: the file with everything that was logged.
    """

    def __init__(self, component: str, reason: str, log: str) -> None:
        super().__init__(f"{component} failed: {reason}\nThe whole log: {log}")
        self.component = component
        self.reason = reason
        self.log = log


@dataclass(frozen=True)
class RunResult:
    """A run that came to its end.

    Attributes:
      run_id: names the run in ML Metadata, and its log.
      report: the numbers of the run.
      times: seconds by component, in the order they ran; near 0 for what was cached.
      cached: components whose results came from an earlier run.
      blessed: whether the model passed the gate.
      pushed_version: the version that this run pushed, or an earlier one where the Pusher was cached; None where
        nothing was pushed.
      log: the log file.
    """

    run_id: str
    report: Report
    times: dict[str, float]
    cached: frozenset[str]
    blessed: bool
    pushed_version: int | None
    log: str

    @property
    def pushed_earlier(self) -> bool:
        """Whether it was an earlier run that pushed the version."""
        return self.pushed_version is not None and "Pusher" in self.cached


def run(config: PipelineConfig, terminal: Terminal | None = None) -> RunResult:
    """Runs the pipeline once, for one model, and shows each component on standard error.

    Args:
      config: the run; relative paths are read from the working directory.
      terminal: how much is shown there.

    Raises:
      ConfigError: if there is no pipeline for the configuration, e.g. because the data is missing, or if its
        metadata is not SQLite.
      RunFailed: if a component fails, or cannot run because an input is missing.
    """
    config = config.with_absolute_paths()
    run_id, log, nodes = _run_nodes(config, config.model.name, _whole_pipeline, terminal)

    from components.run_report.report import read_report

    report = read_report(nodes["RunReport"].outputs["report"])
    return RunResult(
        run_id=run_id,
        report=report,
        times={name: node.seconds for name, node in nodes.items()},
        cached=frozenset(name for name, node in nodes.items() if node.state == "CACHED"),
        blessed=report.blessed,
        pushed_version=report.pushed_version,
        log=log,
    )


def prepare_data(config: PipelineConfig, terminal: Terminal | None = None) -> dict[str, dict[str, str]]:
    """Runs the steps before training, from the cache where their settings have not changed.

    Args:
      config: as for :func:`run`.
      terminal: likewise.

    Returns:
      Component -> output -> address of its artifact.

    Raises:
      ConfigError: as for :func:`run`.
      RunFailed: likewise.
    """
    _, _, nodes = _run_nodes(config.with_absolute_paths(), "data", _data_pipeline, terminal)
    return {name: node.outputs for name, node in nodes.items()}


def _whole_pipeline(config: PipelineConfig) -> Pipeline:
    from pipeline.dag import create_pipeline

    return create_pipeline(config)


def _data_pipeline(config: PipelineConfig) -> Pipeline:
    from pipeline.dag import create_data_pipeline

    return create_data_pipeline(config)


def _run_nodes(
    config: PipelineConfig, label: str, factory: Factory, terminal: Terminal | None
) -> tuple[str, str, dict[str, NodeRun]]:
    terminal = terminal or Terminal()
    if config.metadata.kind != "sqlite":
        raise ConfigError(
            f"metadata.kind: runs on one machine keep it in SQLite under their output, not in {config.metadata}"
        )
    layout = Layout(config.output)
    run_id = f"{dt.datetime.now():%Y%m%d-%H%M%S-%f}-{label}"
    log = os.path.join(layout.logs, f"{run_id}.log")
    _clear(layout, terminal)
    with living(layout, run_id), output_to_log(log, terminal) as stream:
        _adopt_moved_artifacts(layout, terminal)
        return run_id, log, _run_dag(config, factory, run_id, log, terminal, stream)


def _clear(layout: Layout, terminal: Terminal) -> None:
    try:
        cleared = clear(layout)
    except OSError as error:
        terminal.note(f"not cleared, what earlier runs left unfinished: {reason(error)}")
        return
    if cleared:
        terminal.note(f"cleared, what earlier runs left unfinished: {cleared}")


def _adopt_moved_artifacts(layout: Layout, terminal: Terminal) -> None:
    from pipeline.output.runs import adopt_moved_artifacts

    count, before = adopt_moved_artifacts(layout.metadata_db)
    if count:
        terminal.note(
            f"The runs in this folder were made at {before}. It is now at {layout.output}, and their {count} artifacts "
            "are taken from here; most steps run again, because TFX's cache compares addresses."
        )


def _run_dag(
    config: PipelineConfig, factory: Factory, run_id: str, log: str, terminal: Terminal, stream: TextIO
) -> dict[str, NodeRun]:
    with terminal.loading():
        import absl.logging
        from tfx.dsl.compiler.compiler import Compiler
        from tfx.dsl.compiler.constants import PIPELINE_RUN_ID_PARAMETER_NAME
        from tfx.orchestration.beam.beam_dag_runner import BeamDagRunner
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner
        from tfx.orchestration.portable.runtime_parameter_utils import substitute_runtime_parameter

        from components.trainer.strategy import training_strategy
        from pipeline.output.executions import Canceled
        from pipeline.output.runs import node_runs

        try:
            dag = Compiler().compile(factory(config))
        except ValueError as error:
            raise ConfigError(str(error)) from error
    # The runners would name the run themselves and tell nobody.
    substitute_runtime_parameter(dag, {PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    runner = BeamDagRunner() if config.runner == "beam" else LocalDagRunner()

    # Other components start TensorFlow in this process before the trainer can ask for logical devices.
    training_strategy(config.training.cpu_replicas)
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.INFO)
    progress = ComponentProgress(stream, total=len(dag.nodes), in_place=not terminal.verbose)
    absl_logger = logging.getLogger("absl")
    absl_logger.addHandler(progress)
    os.environ[RUN_PROCESS] = str(os.getpid())
    canceled = Canceled(metadata=config.metadata, output=config.output, run_id=run_id)
    try:
        with last_words(progress.interrupted, canceled.command()):
            runner.run_with_ir(dag)
    except Exception as error:
        logging.error("The run failed.\n%s", traceback.format_exc())
        progress.fail()
        raise RunFailed(progress.running or "pipeline", reason(error), log) from error
    finally:
        absl_logger.removeHandler(progress)
        absl.logging.set_verbosity(verbosity)

    nodes = {node.node: node for node in node_runs(Layout(config.output).metadata_db, config.pipeline_name, run_id)}
    for name in (node.pipeline_node.node_info.id for node in dag.nodes):
        # TFX's launcher logs an input that cannot be resolved and goes on without the node.
        if name not in nodes or not nodes[name].succeeded:
            raise RunFailed(name, "it did not run: an input could not be resolved", log)
    return nodes

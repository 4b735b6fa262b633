"""One step of the compiled pipeline: one node of the DAG, launched by TFX's own launcher.

The step compiles the whole DAG again from its configuration, so that inputs, resolvers, drivers and caching are
TFX's and are those of a run on one machine. What steps share is ML Metadata and the output folder.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import ConfigError, CtrError
from pipeline.output.layout import Layout
from pipeline.process.endings import RUN_PROCESS, last_words
from pipeline.process.errors import reason
from pipeline.settings.metadata import connection
from pipeline.settings.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from tfx.orchestration.metadata import Metadata


class StepFailed(CtrError):
    """A step that did not do its work; the message names it and says why."""


@dataclass(frozen=True)
class StepResult:
    """A step that came to its end.

    Attributes:
      cached: whether its outputs are those of an earlier run.
      outputs: output key -> address of its (first) artifact.
      pushed_earlier: whether this run's Pusher took what an earlier one had pushed.
    """

    cached: bool
    outputs: dict[str, str]
    pushed_earlier: bool = False


def run_step(config: PipelineConfig, node: str, run_id: str) -> StepResult:
    """Runs one node; the nodes above it must have run under the same ``run_id``.

    A step that is run once more under the same id takes up its own execution, and is not repeated where it had
    succeeded.

    Args:
      config: the run.
      node: the node's id.
      run_id: the same in all steps of a run, and of no other run.

    Raises:
      ConfigError: if there is no such node, or no pipeline for the configuration.
      StepFailed: if the node fails, or cannot run because an input is missing.
    """
    if not run_id or "{{" in run_id:
        raise ConfigError(
            f"run id: {run_id!r} was not filled in; steps need Kubeflow Pipelines 2.5.0 or newer, or a --run-id"
        )
    from tfx.dsl.compiler.compiler import Compiler
    from tfx.dsl.compiler.constants import PIPELINE_RUN_ID_PARAMETER_NAME
    from tfx.orchestration import metadata as tfx_metadata
    from tfx.orchestration.local import runner_utils
    from tfx.orchestration.portable.launcher import Launcher
    from tfx.orchestration.portable.runtime_parameter_utils import substitute_runtime_parameter

    from pipeline.dag import create_pipeline
    from pipeline.output.executions import Canceled

    dag = Compiler().compile(create_pipeline(config, data_must_exist=node == "ImpressionGen"))
    substitute_runtime_parameter(dag, {PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    nodes = {element.pipeline_node.node_info.id: element.pipeline_node for element in dag.nodes}
    if node not in nodes:
        raise ConfigError(f"node {node}: there is none; there are {', '.join(nodes)}")

    deployment = runner_utils.extract_local_deployment_config(dag)
    store = tfx_metadata.Metadata(connection(config.metadata, Layout(config.output)))
    launcher = Launcher(
        pipeline_node=nodes[node],
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
        with last_words(line, canceled.command()):
            launcher.launch()
    except Exception as error:
        logging.exception("%s failed", node)
        raise StepFailed(f"{node} failed: {reason(error)}") from error
    return _result(config, node, run_id, store)


def _result(config: PipelineConfig, node: str, run_id: str, store: Metadata) -> StepResult:
    from pipeline.output.runs import NoSuchRun, node_runs_in

    with store as handle:
        try:
            found = {run.node: run for run in node_runs_in(handle.store, config.pipeline_name, run_id)}
        except NoSuchRun:
            found = {}
    # TFX's launcher logs an input that cannot be resolved and goes on without the node.
    if node not in found or not found[node].succeeded:
        raise StepFailed(
            f"{node} did not run: an input could not be resolved; the steps before it must have run as {run_id!r} "
            f"in {config.metadata}"
        )
    cached = {name for name, run in found.items() if run.state == "CACHED"}
    return StepResult(cached=node in cached, outputs=found[node].outputs, pushed_earlier="Pusher" in cached)


def write_report(result: StepResult, report_file: str, blessed_file: str, reason_file: str) -> None:
    """Writes what Kubeflow shows and hands to the last step: the report, and whether and why not it was blessed.

    Args:
      result: of the RunReport step.
      report_file: gets Markdown.
      blessed_file: gets true or false.
      reason_file: gets the reasons, one line.
    """
    from components.run_report.render import pushed, render, render_markdown
    from components.run_report.report import read_report

    report = read_report(result.outputs["report"])
    print(render(report, pushed_earlier=result.pushed_earlier), flush=True)
    reasons = " ".join("; ".join(map(str, report.verdict.failures)).split())
    what = pushed(report, result.pushed_earlier)
    texts = {
        report_file: render_markdown(report, result.pushed_earlier),
        blessed_file: "true" if report.blessed else "false",
        reason_file: what if report.blessed else f"{what}: {reasons}",
    }
    for file, text in texts.items():
        os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(text)

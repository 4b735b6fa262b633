"""``step``, ``verdict`` and ``worker``, which containers call; a person calls none."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import absl.logging

from ctr.pipeline.commands.command_line import EXIT_CODES, NOT_BLESSED, OK, add_command, add_repeated, assigned
from ctr.pipeline.process.terminal import LOG_FORMAT
from ctr.pipeline.runners.kubeflow.package import CONFIG_OPTION, EXECUTOR_INPUT, VERDICT
from ctr.pipeline.runners.kubeflow.parameters import with_parameters
from ctr.pipeline.settings.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from ctr.components.run_report.report import Report
    from ctr.pipeline.dag import Outcome

WORKER: Final = "worker"
NAMES: Final = ("step", VERDICT, WORKER)


def add(commands: Any) -> None:
    """Adds the commands of this module."""
    parser = add_command(
        commands,
        "step",
        _step,
        "run one node of the DAG, as a step of the compiled pipeline does",
        """\
Steps that share a run id make a run; they meet in ML Metadata and in the output folder of the configuration.

example:
  %(prog)s --node ImpressionGen --run-id 1 --param data=/mnt/log \\
      --config '{"evaluation":{"bounds":{"auc":{"min":0.8}}}}'
""",
        listed=False,
    )
    parser.add_argument("--node", metavar="ID", required=True)
    parser.add_argument("--run-id", metavar="ID", required=True)
    parser.add_argument(CONFIG_OPTION, metavar="JSON", required=True, help="what the pipeline was compiled from")
    add_repeated(parser, "--param", "NAME=VALUE", "a parameter of the run; may be repeated")
    report = parser.add_argument_group("of the RunReport node")
    report.add_argument("--report-file", metavar="FILE", help="gets the report, in Markdown")
    report.add_argument("--page-file", metavar="FILE", help="gets the report, as a page of HTML")
    report.add_argument("--blessed-file", metavar="FILE", help="gets true or false")
    report.add_argument("--reason-file", metavar="FILE", help="gets what was pushed, or why nothing was")
    report.add_argument(
        EXECUTOR_INPUT, metavar="JSON", help="says which file gets the numbers for Kubeflow's user interface"
    )

    parser = add_command(
        commands,
        VERDICT,
        _verdict,
        "the last step of the compiled pipeline: fail if the model was not blessed",
        f"""\
example:
  %(prog)s --blessed false --reason "nothing pushed: AUC is 0.61; the lower bound is 0.8"

{EXIT_CODES}""",
        listed=False,
    )
    parser.add_argument("--blessed", metavar="BOOL", required=True, choices=("true", "false", "True", "False"))
    parser.add_argument("--reason", metavar="TEXT", default="")

    parser = add_command(
        commands,
        WORKER,
        _worker,
        "train as one of several workers, as TF_CONFIG says",
        """\
Waits for the Trainer step of the chief, which runs where TF_CONFIG has the first worker, to write the file. The chief
writes what is trained; the others end with it.

example:
  %(prog)s --work /output/artifacts/Trainer/work/nightly-0.json
""",
        listed=False,
    )
    parser.add_argument("--work", metavar="FILE", required=True, help="DIR/artifacts/Trainer/work/$CTR_JOB.json")


def _step(options: argparse.Namespace) -> int:
    # Kubeflow keeps and shows what a step writes.
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    absl.logging.set_verbosity(absl.logging.INFO)
    given = assigned("--param", options.param, "NAME=VALUE, e.g. epochs=2")
    config = with_parameters(PipelineConfig.from_json(options.config), given)

    from ctr.pipeline.runners.kubeflow.step import StepRunner

    result = StepRunner(options.node, options.run_id, alone=True).run(config)
    print(f"{options.node}: {'taken from the cache' if result.cached else 'done'}", file=sys.stderr)
    if result.outcome is not None and options.report_file:
        _write_report(result.outcome, options)
    return OK


def _worker(options: argparse.Namespace) -> int:
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    from ctr.components.trainer.workers import follow

    # The one at the chief's side ends with the run that started it.
    importlib.import_module("ctr.pipeline.process.end_with_run")
    follow(options.work)
    return OK


def _write_report(outcome: Outcome, options: argparse.Namespace) -> None:
    """Writes what Kubeflow shows and hands to the last step: the report, and whether and why not it was blessed."""
    from ctr.components.run_report.kubeflow import executor_output
    from ctr.components.run_report.page import render_page
    from ctr.components.run_report.render import pushed, render, render_markdown
    from ctr.components.run_report.report import Afterwards

    report, after = outcome.report, Afterwards(pushed_earlier=outcome.pushed_earlier)
    print(render(report, after), flush=True)
    what = pushed(report, outcome.pushed_earlier)
    texts = {
        options.report_file: render_markdown(report, after),
        options.page_file: render_page(report, after),
        options.blessed_file: "true" if report.blessed else "false",
        options.reason_file: what if report.blessed else f"{what}: {_why(report)}",
    }
    if options.executor_input:
        file = json.loads(options.executor_input).get("outputs", {}).get("outputFile")
        texts |= {file: json.dumps(executor_output(report))} if file else {}
    for file, text in texts.items():
        os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(text)


def _why(report: Report) -> str:
    """Why a model was not blessed, in a line."""
    verdict = report.evaluation.verdict
    words = [bound.words for bound in verdict.missed] or [verdict.comparison_words]
    return " ".join("; ".join(words).split())


def _verdict(options: argparse.Namespace) -> int:
    blessed = options.blessed.lower() == "true"
    print(f"{'BLESSED' if blessed else 'NOT BLESSED'}: {options.reason}")
    return OK if blessed else NOT_BLESSED

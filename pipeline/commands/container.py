"""``step`` and ``verdict``, which the steps of the compiled pipeline call; a person calls neither."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any, Final

import absl.logging

from pipeline.commands.command_line import EXIT_CODES, NOT_BLESSED, OK, add_command
from pipeline.process.terminal import LOG_FORMAT
from pipeline.runners.kubeflow.package import CONFIG_OPTION, VERDICT
from pipeline.runners.kubeflow.parameters import PARAMETERS, with_parameters
from pipeline.settings.pipeline_config import PipelineConfig

NAMES: Final = ("step", VERDICT)


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
  %(prog)s --node ImpressionGen --run-id 1 --config '{"evaluation":{"min_auc":0.8}}' --data /mnt/log
""",
        listed=False,
    )
    parser.add_argument("--node", metavar="ID", required=True)
    parser.add_argument("--run-id", metavar="ID", required=True)
    parser.add_argument(CONFIG_OPTION, metavar="JSON", required=True, help="what the pipeline was compiled from")
    for parameter in PARAMETERS:
        parser.add_argument(parameter.option, metavar="VALUE", help=f"instead of {parameter.setting}")
    report = parser.add_argument_group("of the RunReport node")
    report.add_argument("--report-file", metavar="FILE", help="gets the report, in Markdown")
    report.add_argument("--blessed-file", metavar="FILE", help="gets true or false")
    report.add_argument("--reason-file", metavar="FILE", help="gets what was pushed, or why nothing was")

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


def _step(options: argparse.Namespace) -> int:
    # Kubeflow keeps and shows what a step writes.
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    absl.logging.set_verbosity(absl.logging.INFO)
    config = PipelineConfig.from_json(options.config)
    given = {p.name: getattr(options, p.name) for p in PARAMETERS if getattr(options, p.name) is not None}
    config = with_parameters(config, given)

    from pipeline.runners.kubeflow.step import run_step, write_report

    result = run_step(config, options.node, options.run_id)
    print(f"{options.node}: {'taken from the cache' if result.cached else 'done'}", file=sys.stderr)
    if options.report_file:
        write_report(result, options.report_file, options.blessed_file, options.reason_file)
    return OK


def _verdict(options: argparse.Namespace) -> int:
    blessed = options.blessed.lower() == "true"
    print(f"{'BLESSED' if blessed else 'NOT BLESSED'}: {options.reason}")
    return OK if blessed else NOT_BLESSED

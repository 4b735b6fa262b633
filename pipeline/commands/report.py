"""``report``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctr.components.files import absolute
from ctr.components.run_report.report import Afterwards, Lineage, StepCost, read_report
from ctr.pipeline.commands.command_line import OK, add_command
from ctr.pipeline.output.layout import PUSHER, REPORT, Layout

if TYPE_CHECKING:
    from ctr.pipeline.output.runs import NodeRun


def add(commands: Any) -> None:
    """Adds the command of this module."""
    parser = add_command(
        commands,
        "report",
        _report,
        "write the page of a run again, and print where it is",
        """\
One HTML file that needs nothing else: verdict, metrics with intervals, slices, training, data, time by step,
lineage. 'run' writes it at its end.

examples:
  %(prog)s --output output/mine
  %(prog)s --output output/mine --run 20241125-101500-000000-din --open-path
""",
    )
    parser.add_argument("--output", metavar="DIR", default="output", help="of the run; default: %(default)s")
    parser.add_argument("--run", metavar="ID", help="of the run, as its log is named; default: the newest")
    parser.add_argument("--open-path", action="store_true", help="print a file:// address, which terminals open")


def _report(options: argparse.Namespace) -> int:
    from ctr.pipeline.output.runs import NoSuchRun, finished_runs

    layout = Layout(absolute(options.output))
    runs = finished_runs(layout.metadata_db, REPORT[0])
    run_id = options.run or next((run_id for run_id, _ in runs), None)
    if run_id not in dict(runs):
        what = f"no run {run_id!r} has" if run_id else "no run has"
        there = f"; there are {', '.join(run_id for run_id, _ in runs)}" if runs else ""
        raise NoSuchRun(f"{layout.metadata_db}: {what} come to its report{there}")
    path = write_page(layout, dict(runs)[run_id], run_id)
    print(Path(path).as_uri() if options.open_path else path)
    return OK


def page_path(layout: Layout, run_id: str) -> str:
    """Where the page of a run is."""
    return os.path.join(layout.reports, f"{run_id}.html")


def write_page(layout: Layout, pipeline_name: str, run_id: str) -> str:
    """Writes the page of a run that has come to its end, with what its steps took.

    Returns:
      The file.

    Raises:
      NoSuchRun: if there is no such run.
      ReportUnreadable: if another version wrote its report.
    """
    from ctr.components.run_report.page import render_page
    from ctr.pipeline.output.runs import node_runs

    nodes = node_runs(layout.metadata_db, pipeline_name, run_id)
    node, key = REPORT
    report = read_report(next(each for each in nodes if each.node == node).outputs[key])
    os.makedirs(layout.reports, exist_ok=True)
    path = page_path(layout, run_id)
    with open(path, "w", encoding="utf-8") as file:
        file.write(render_page(report, afterwards(run_id, nodes)))
    return path


def afterwards(run_id: str, nodes: Iterable[NodeRun]) -> Afterwards:
    """What ML Metadata knows of a run when its last step has ended."""
    nodes = list(nodes)
    return Afterwards(
        pushed_earlier=any(each.node == PUSHER and each.cached for each in nodes),
        steps=tuple(StepCost(step=each.node, seconds=each.seconds, cached=each.cached) for each in nodes),
        lineage=Lineage(
            run_id=run_id,
            artifacts={f"{each.node}.{key}": uri for each in nodes for key, uri in each.outputs.items()},
        ),
    )

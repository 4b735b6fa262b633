"""``report``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctr.components.files import absolute
from ctr.components.run_report.report import Afterwards, Lineage, StepCost, read_report
from ctr.pipeline.commands.command_line import OK, add_command
from ctr.pipeline.output.layout import PUSHER, REPORT, TRAINER, Layout

if TYPE_CHECKING:
    from ctr.pipeline.output.history import Run


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
    from ctr.pipeline.output.history import History
    from ctr.pipeline.output.runs import NoSuchRun

    layout = Layout(absolute(options.output))
    history = History(layout)
    runs = [history.named(options.run)] if options.run else history.runs()
    ended = [run for run in runs if _reported(run)]
    if not ended:
        which = f"run {options.run!r} has not" if options.run else "no run has"
        raise NoSuchRun(f"{layout.metadata_db}: {which} come to its report")
    path = write_page(layout, ended[-1])
    print(Path(path).as_uri() if options.open_path else path)
    return OK


def _reported(run: Run) -> bool:
    node, _ = REPORT
    return node in run.steps and run.steps[node].state in ("COMPLETE", "CACHED")


def page_path(layout: Layout, run_id: str) -> str:
    """Where the page of a run is."""
    return os.path.join(layout.reports, f"{run_id}.html")


def write_page(layout: Layout, run: Run) -> str:
    """Writes the page of a run that has come to its report, with what its steps took.

    Returns:
      The file.

    Raises:
      ReportUnreadable: if another version wrote its report.
    """
    from ctr.components.run_report.page import render_page

    report = read_report(run.steps[REPORT[0]].outputs[REPORT[1]].uri)
    os.makedirs(layout.reports, exist_ok=True)
    path = page_path(layout, run.run_id)
    with open(path, "w", encoding="utf-8") as file:
        file.write(render_page(report, afterwards(run)))
    return path


def afterwards(run: Run) -> Afterwards:
    """What ML Metadata knows of a run when its last step has ended."""
    content, training = run.content, run.steps.get(TRAINER)
    by = training.provenance if training is not None else None
    return Afterwards(
        pushed_earlier=PUSHER in run.steps and run.steps[PUSHER].cached,
        steps=tuple(
            StepCost(step=name, cached=step.cached, **step.usage.model_dump()) for name, step in run.steps.items()
        ),
        lineage=Lineage(
            run_id=run.run_id,
            started=run.started.isoformat(timespec="seconds"),
            data_digest=content.digest if content is not None else None,
            span=str(content.span) if content is not None and content.span else None,
            code_version=by.code if by is not None else None,
            packages={"python": by.python, **by.packages} if by is not None else {},
            artifacts={
                f"{name}.{key}": f"{made.id}: {made.uri}"
                for name, step in run.steps.items()
                for key, made in step.outputs.items()
            },
        ),
    )

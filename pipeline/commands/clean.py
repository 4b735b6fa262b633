"""``clean``."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ctr.components.files import absolute
from ctr.models.errors import CtrError
from ctr.pipeline.commands.command_line import OK, add_command, terminal_of
from ctr.pipeline.output.layout import Layout


def add(commands: Any) -> None:
    """Adds the command of this module."""
    parser = add_command(
        commands,
        "clean",
        _clean,
        "remove what runs that were ended left behind in an output folder",
        """\
Outputs of executions that did not succeed, or that ML Metadata does not know, and copies of versions that were
never pushed. Each run removes by itself what runs left that were killed; this removes what is older, too. Nothing
is removed that a living run writes, that an execution which succeeded has made, or that was pushed; nor are logs.

examples:
  %(prog)s --output output/demo --dry-run
  %(prog)s --output output/demo
""",
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="of the runs")
    parser.add_argument("--dry-run", action="store_true", help="list it, and remove nothing")


def _clean(options: argparse.Namespace) -> int:
    from ctr.pipeline.output.leftovers import clear_all, readable

    terminal, layout = terminal_of(options), Layout(absolute(options.output))
    if not os.path.isdir(layout.output):
        raise CtrError(f"{layout.output}: no such folder; give the --output of the runs")
    try:
        found = clear_all(layout, dry_run=options.dry_run)
    except OSError as error:
        raise CtrError(error) from error
    for leftover in found.folders:
        print(f"{readable(leftover.size):>10}  {os.path.relpath(leftover.path, layout.output)}  ({leftover.why})")
    for number, why in sorted(found.executions.items()):
        print(f"{'':>10}  execution {number} of ML Metadata, under way no more  ({why})")
    for line in found.left_alone:
        terminal.note(f"left alone: {line}")
    terminal.note(f"{'to be removed' if options.dry_run else 'removed'}: {found}")
    return OK

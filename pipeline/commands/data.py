"""``inspect``, ``check-data`` and ``ids``."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import TYPE_CHECKING, Any, Final

from ctr.components import quarantine
from ctr.components.files import absolute
from ctr.models.errors import ConfigError, CtrError
from ctr.models.string_ids import id_of
from ctr.pipeline.commands.command_line import (
    EXIT_CODES,
    OK,
    add_command,
    add_config_options,
    configuration,
    print_json,
    terminal_of,
)
from ctr.pipeline.output.layout import IMPRESSIONS, Layout

if TYPE_CHECKING:
    from ctr.components.impression_gen.check import Checked
    from ctr.pipeline.settings.pipeline_config import PipelineConfig

_SHOWN: Final = 2
"""Rows of each reason."""


def add(commands: Any) -> None:
    """Adds the commands of this module."""
    parser = add_command(
        commands,
        "inspect",
        _inspect,
        "look at a log for some seconds and write a first description of it",
        """\
It reads the beginning, the middle and the end of up to three files, and guesses which column is what. Each guess
stands beside its reason; columns that are not used are listed.

examples:
  %(prog)s events/ --output shop.yaml
  %(prog)s ratings.csv.gz
""",
    )
    parser.add_argument("data", metavar="DATA", help="a file or a folder of files: CSV, TSV, JSON lines or Parquet")
    parser.add_argument("--output", metavar="FILE", help="a .yaml for the description; default: standard output")

    parser = add_command(
        commands,
        "ids",
        _ids,
        "the numbers that stand for ids that are strings, in requests and answers, and back",
        """\
Prints a line for each: the number and the string; back, whose id it is stands between them.

examples:
  %(prog)s B00006I5WJ A2SUAM1J3GNN3B
  %(prog)s --output output/shop 6523917574386832123
""",
    )
    parser.add_argument("ids", metavar="ID", nargs="+", help="strings; with --output, numbers")
    parser.add_argument("--output", metavar="DIR", help="back to strings, as the newest run in DIR has read them")

    parser = add_command(
        commands,
        "check-data",
        _check,
        "say within seconds what a run would say of a log",
        f"""\
It reads the beginning, the middle and the end of up to nine files (of compressed ones the beginning), and a small log
as a whole.

examples:
  %(prog)s events/ --dataset shop.yaml
  %(prog)s UserBehavior.csv.zip --preset full --json

{EXIT_CODES}  1: a run would stop, or would as far as the sample tells.
""",
        answers=True,
    )
    add_config_options(parser, needs_data=True)


def _inspect(options: argparse.Namespace) -> int:
    from ctr.components.impression_gen.inspection import inspect

    if options.output is not None and not options.output.endswith(".yaml"):
        raise ConfigError(f"--output {options.output}: a description's name must end in .yaml")
    try:
        found = inspect(absolute(options.data))
        if options.output is None:
            print(found.yaml, end="", flush=True)
        else:
            with open(options.output, "x", encoding="utf-8") as file:
                file.write(found.yaml)
    except FileExistsError:
        raise ConfigError(f"--output {options.output}: is there already; move it, or choose another name") from None
    except OSError as error:
        raise CtrError(error) from error
    terminal = terminal_of(options)
    for warning in found.warnings:
        terminal.note(f"! {warning}")
    if not found.complete:
        raise CtrError("a column that there must be was not found: choose it in the description")
    return OK


def _check(options: argparse.Namespace) -> int:
    from ctr.components.impression_gen.check import check

    config = configuration(options)
    try:
        checked = check(absolute(config.data), config.ingest, config.span)
    except OSError as error:
        raise CtrError(error) from error
    if options.json:
        print_json(answer(checked))
    else:
        print("\n".join(_lines(checked, config)), flush=True)
    if checked.refusal is not None:
        raise CtrError(checked.refusal)
    return OK


def _ids(options: argparse.Namespace) -> int:
    if options.output is None:
        for name in options.ids:
            print(f"{id_of(name)}\t{name}")
        return OK
    from ctr.components.dataset import ID_FIELDS
    from ctr.components.examples.names import read_names
    from ctr.pipeline.output.history import History

    if wrong := [number for number in options.ids if not number.isdecimal()]:
        raise ConfigError(f"{wrong[0]}: with --output give numbers, which strings are looked up for")
    numbers = [int(number) for number in options.ids]
    runs = reversed(History(Layout(absolute(options.output))).runs())
    catalogue = next((found for run in runs if (found := run.output(IMPRESSIONS[0], "catalogue")) is not None), None)
    if catalogue is None:
        raise CtrError(f"--output {options.output}: no run has read a log there")
    rows = [
        (number, field, name)
        for field in ID_FIELDS
        for number, name in read_names(catalogue.uri, field, numbers).items()
    ]
    for row in rows:
        print(*row, sep="\t")
    if missing := sorted(set(numbers) - {number for number, _, _ in rows}):
        raise CtrError(f"{missing[0]}: no string of the log that was read last has this number")
    return OK


def answer(checked: Checked) -> dict[str, Any]:
    """The JSON document."""
    return {
        **dataclasses.asdict(checked),
        "quarantined": {reason: checked.quarantined[reason] for reason in quarantine.REASONS},
        "examples": {reason: [row._asdict() for row in rows] for reason, rows in checked.examples.items()},
    }


def _lines(checked: Checked, config: PipelineConfig) -> list[str]:
    from ctr.components.local_time import shown

    dataset = config.ingest.dataset
    bad = sum(checked.quarantined.values())
    lines = [
        f"{len(checked.files):,} file(s); {checked.rows:,} rows looked at{', all' if checked.whole else ''}: "
        f"{checked.rows - bad - checked.left_out:,} events, {bad:,} for the quarantine, {checked.left_out:,} left out"
    ]
    if checked.first_second is not None and checked.last_second is not None:
        first, last = (shown(second, dataset.zone) for second in (checked.first_second, checked.last_second))
        kinds = ", ".join(f"{count:,} {name}" for name, count in checked.behaviors.items())
        lines.append(f"events from {first} to {last} ({dataset.time.zone}): {kinds or 'none'}")
    if exposed := checked.exposures:
        lines.append(f"shown: {exposed['shown']:,} rows, {exposed['clicked']:,} of them clicked")
    for reason, count in checked.quarantined.most_common():
        lines.append(f"{reason}: {count:,}")
        for example in checked.examples[reason][:_SHOWN]:
            where = f"{example.file}, line {example.line}" if example.line else example.file
            lines.append(f"  {where}, {example.detail}: {example.text}")
    if checked.unused:
        lines.append(f"columns that are not used: {', '.join(checked.unused)}")
    if checked.ignored:
        lines.append(f"files that are not read: {', '.join(map(os.path.basename, checked.ignored))}")
    if checked.warning:
        lines.append(f"warning, of the sample alone: {checked.warning}")
    if checked.refusal is None:
        lines.append("a run would take it" if checked.whole else "a run would take it, as far as the sample tells")
    return lines

"""``generate``."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from ctr.components.files import absolute
from ctr.generator.generator_config import DIRT_KINDS, FIRST_DAY, GeneratorConfig
from ctr.models.errors import ConfigError, CtrError
from ctr.models.validation import problems
from ctr.pipeline.commands.command_line import OK, add_command, add_repeated, assigned, print_json, terminal_of
from ctr.pipeline.process.terminal import Terminal

if TYPE_CHECKING:
    from ctr.generator.behavior_log import GeneratorSummary


def add(commands: Any) -> None:
    """Adds the command of this module."""
    parser = add_command(
        commands,
        "generate",
        _generate,
        "write a behaviour log of the public data's shape, the same bytes for the same seed",
        """\
example:
  %(prog)s --users 3000 --seed 7 --output log.csv.gz
  %(prog)s --users 20000 --categories 300 --output small-shop.csv
  %(prog)s --like amazon-reviews --categories 100 --output reviews.json.gz
  %(prog)s --like exposures --users 2000 --output exposures
  %(prog)s --output dirty.csv --dirt duplicate=49 --dirt unknown_behavior=0.001 --crlf
""",
        answers=True,
    )
    add_log_options(parser)
    parser.add_argument("--items", type=int, help="catalogue size; default: 4.2 a user, at least 1,500,000")
    parser.add_argument(
        "--categories", type=int, help="default: 9439; with fewer, which category follows which can be learnt from less"
    )
    parser.add_argument("--start", metavar="DAY", help=f"first of the log's nine days; default: {FIRST_DAY}")
    parser.add_argument(
        "--like",
        choices=get_args(GeneratorConfig.model_fields["like"].annotation),
        help="whose form it has; default: public",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help="a .csv or .csv.gz; of reviews .json, .json.gz; of exposures a folder",
    )
    says = f"add bad rows, a whole number of them or a share of the clean rows; kinds: {', '.join(DIRT_KINDS)}"
    add_repeated(parser, "--dirt", "KIND=AMOUNT", says, lambda: (f"{kind}=" for kind in DIRT_KINDS))
    parser.add_argument("--crlf", action="store_true", help="end lines with CR LF")


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Adds those of whatever generates a log."""
    parser.add_argument("--users", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="default: %(default)s")


def _generate(options: argparse.Namespace) -> int:
    amounts: dict[str, Any] = {"crlf": options.crlf}
    for kind, amount in assigned("--dirt", options.dirt, "KIND=AMOUNT, e.g. duplicate=49").items():
        try:
            amounts[kind] = yaml.safe_load(amount)
        except yaml.YAMLError as error:
            raise ConfigError(f"--dirt '{kind}={amount}': the amount is not a number: {error}") from error
    names = ("users", "seed", "items", "categories", "start", "like")
    chosen = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    summary = generate_log(options.output, terminal_of(options), dirt=amounts, **chosen)
    if options.json:
        print_json(answer(summary))
    return OK


def answer(summary: GeneratorSummary) -> dict[str, Any]:
    """The JSON document."""
    return {**dataclasses.asdict(summary), "path": str(summary.path)}


def generate_log(path: str, terminal: Terminal, **settings: Any) -> GeneratorSummary:
    """Writes a log with these settings of ``GeneratorConfig``, its folder, too, and says so."""
    from pydantic import ValidationError

    from ctr.generator.behavior_log import generate

    try:
        config = GeneratorConfig.model_validate(settings)
        os.makedirs(os.path.dirname(absolute(path)), exist_ok=True)
        with terminal.waiting(f"Generating a log of {config.users:,} users"):
            summary = generate(config, Path(path), (lambda users: None) if terminal.quiet else None)
    except ValidationError as error:
        raise ConfigError("\n".join(problems(error, GeneratorConfig))) from error
    except OSError as error:
        raise CtrError(error) from error
    terminal.note(f"{summary.path}: {summary.rows:,} rows of {summary.users:,} users")
    return summary

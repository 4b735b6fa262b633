"""What the modules of the command line share: exit codes, errors, and the options that make a configuration."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

from pipeline.config import PipelineConfig, load_preset, preset_names

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_BLESSED: Final = 3
INTERRUPTED: Final = 130

EXIT_CODES: Final = """\
exit codes:
  0  done            2  wrong usage or configuration
  1  a step failed   3  trained, but not blessed: nothing was pushed, the old version stays
  130, 143  stopped by Ctrl-C or by SIGTERM: what was finished is kept, the same command goes on
"""


class CommandError(Exception):
    """What a person asked for cannot be done; the message says why."""


def add_command(
    commands: Any, name: str, function: Callable[..., int], short: str, epilog: str
) -> argparse.ArgumentParser:
    """Adds one command.

    Args:
      commands: of the parser, as ``add_subparsers`` returned them.
      name: of the command.
      function: takes the parsed options and returns the exit code.
      short: one line, without a capital and a full stop.
      epilog: details and examples.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=short,
        description=f"{short[0].upper()}{short[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=function)
    return parser


def add_config_options(parser: argparse.ArgumentParser, preset: str = "full") -> None:
    """Adds the options that :func:`configuration` reads."""
    parser.add_argument("--data", metavar="PATH", help="a UserBehavior.csv, .csv.gz or .csv.zip, or a folder of them")
    parser.add_argument(
        "--preset", metavar="NAME", default=preset, help=f"{', '.join(preset_names())}; default: %(default)s"
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change one setting, e.g. training.epochs=2; may be repeated; 'show-config' lists the names",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder for artifacts, metadata, logs and pushed models; default: the preset's"
    )


def configuration(options: argparse.Namespace) -> PipelineConfig:
    """The configuration that a command's options ask for.

    Raises:
      ConfigError: if there is none.
    """
    config = load_preset(options.preset, options.set)
    given = {name: getattr(options, name) for name in ("data", "output") if getattr(options, name) is not None}
    return config.with_overrides(given)

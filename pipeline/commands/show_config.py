"""``show-config``."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from ctr.pipeline.commands.command_line import OK, add_command, add_config_options, configuration, print_json


def add(commands: Any) -> None:
    """Adds the command of this module."""
    parser = add_command(
        commands,
        "show-config",
        _show_config,
        "print the settings of a run as YAML, defaults and changes resolved",
        """\
example:
  %(prog)s --preset sample --set training.epochs=2
""",
        answers=True,
    )
    add_config_options(parser)


def _show_config(options: argparse.Namespace) -> int:
    settings = configuration(options).model_dump(mode="json")
    if options.json:
        print_json(settings)
    else:
        print(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), end="")
    return OK

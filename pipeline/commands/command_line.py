"""What the modules of the command line share: exit codes, errors, help, and the options that make a configuration."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ctr.components.files import absolute, is_address
from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.process.terminal import Terminal, wrapped

if TYPE_CHECKING:
    from ctr.pipeline.settings.pipeline_config import PipelineConfig

_Number = TypeVar("_Number", int, float)

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_BLESSED: Final = 3
INTERRUPTED: Final = 130

EXIT_CODES: Final = """\
exit codes:
  0  done
  1  a step failed
  2  wrong usage or configuration
  3  trained, but not blessed: nothing was pushed, the old version stays
  130, 143  stopped by Ctrl-C or by SIGTERM: what was finished is kept
"""


class HelpFormatter(argparse.HelpFormatter):
    """Help in the width of the terminal: sentences are wrapped, examples are continued with a backslash."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        # argparse forgets that commands are indented, and breaks the line after the longest of them.
        self._action_max_length = 15

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(_filled(text, width))


def _filled(text: str, width: int) -> Iterator[str]:
    """Paragraphs of lines without indentation are wrapped; indented lines stand for themselves."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line and not line.startswith(" "):
            paragraph.append(line)
            continue
        yield from wrapped(" ".join(paragraph), width) if paragraph else ()
        paragraph = []
        yield from _continued(line, width)


def _continued(command: str, width: int) -> Iterator[str]:
    line = ""
    for part in re.split(r" (?=--)", command):
        if line and len(line) + len(part) > width - 3:
            yield f"{line} \\"
            line = f"      {part}"
        else:
            line = f"{line} {part}" if line else part
    yield line


def program() -> str:
    """How this command line is called from here, to be pasted: ``.venv/bin/ctr``."""
    python = Path(sys.executable or "python")
    script = python.with_name("ctr")
    called, module = (script, "") if script.is_file() else (python, " -m ctr")
    if shutil.which(called.name) == str(called):
        return called.name + module
    return (os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)) + module


def add_command(
    commands: Any,
    name: str,
    function: Callable[..., int],
    short: str,
    epilog: str,
    *,
    listed: bool = True,
    answers: bool = False,
) -> argparse.ArgumentParser:
    """Adds one command.

    Args:
      commands: of the parser, as ``add_subparsers`` returned them.
      name: of the command.
      function: takes the parsed options and returns the exit code.
      short: one line, without a capital and a full stop.
      epilog: details and examples; ``%(prog)s`` stands for how the command is called.
      listed: whether a person calls it: it stands in the first help screen, and takes ``-v`` and ``-q``.
      answers: whether it takes ``--json``; docs/command-line.md lists the keys of its ``answer``. A key is never
        renamed or given another meaning; new ones may come.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        description=f"{short[0].upper()}{short[1:]}.",
        epilog=epilog,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        # argparse lists what has a help.
        **({"help": short} if listed else {}),
    )
    parser.set_defaults(command=function, verbose=False, quiet=False)
    if listed:
        amount = parser.add_mutually_exclusive_group()
        amount.add_argument("-v", "--verbose", action="store_true", help="libraries' log lines onto the terminal, too")
        amount.add_argument("-q", "--quiet", action="store_true", help="results and errors alone")
    if answers:
        parser.add_argument("--json", action="store_true", help="the result as one JSON document; docs/command-line.md")
    return parser


def add_repeated(
    parser: argparse.ArgumentParser, option: str, metavar: str, says: str, offered: Callable[[], Iterable[str]] = tuple
) -> None:
    """Adds an option that may be given again and again; what is offered is for completion."""
    offer(parser.add_argument(option, metavar=metavar, action="append", default=[], help=says), offered)


def assigned(option: str, assignments: list[str], form: str) -> dict[str, str]:
    """Name -> value of an option that may be repeated; the last one of a name holds."""
    if wrong := [each for each in assignments if "=" not in each]:
        raise ConfigError(f"{option} {wrong[0]!r}: expected {form}")
    return dict(each.split("=", 1) for each in assignments)


def numbers(kind: type[_Number], fits: Callable[[_Number], bool], says: str) -> Callable[[str], _Number]:
    """The ``type`` of an option that is a number.

    Args:
      kind: int or float.
      fits: whether it may be that number.
      says: what is wrong with another one or with what is none, and what to choose: "no port; choose 0 to 65535".
    """

    def read(text: str) -> _Number:
        with contextlib.suppress(ValueError):
            if fits(number := kind(text)):
                return number
        raise argparse.ArgumentTypeError(f"{text!r} is {says}")

    return read


AT_LEAST_ONE: Final = numbers(int, lambda number: number >= 1, "no whole number of at least 1")


def offer(action: argparse.Action, values: Callable[[], Iterable[str]]) -> None:
    """Makes the values of an option that has no choices known to completion, which alone asks for them."""
    action.offers = values  # type: ignore[attr-defined]


def print_json(document: dict[str, Any]) -> None:
    """Prints the result of a command as JSON."""
    print(json.dumps(document, indent=2), flush=True)


def terminal_of(options: argparse.Namespace) -> Terminal:
    """What the command says beside its result."""
    return Terminal(quiet=options.quiet, verbose=options.verbose)


def check_output(output: str, option: str = "--output") -> None:
    """That a folder, which the option names, can be written to, or made.

    Raises:
      CtrError: if it cannot.
    """
    if is_address(output):
        return
    folder = Path(absolute(output))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise CtrError(f"{option} {output}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CtrError(f"{option} {output}: {folder} cannot be written to by this user")


def add_config_options(parser: argparse.ArgumentParser, preset: str = "full", needs_data: bool = False) -> None:
    """Adds the options that :func:`configuration` reads; a command that does nothing but read data must be given it."""
    # Not above: a command without a configuration does without it.
    from ctr.pipeline.settings.datasets import PUBLIC, dataset_names
    from ctr.pipeline.settings.pipeline_config import preset_names

    says = "a behaviour log or a folder of them; a name, never a pattern"
    if needs_data:
        parser.add_argument("data", metavar="DATA", help=says)
    else:
        parser.add_argument("--data", metavar="PATH", help=says)
    datasets = parser.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"the log's form: {', '.join(dataset_names())}, or a .yaml of your own, which 'inspect' begins; "
        f"default: the preset's, {PUBLIC}",
    )
    offer(datasets, dataset_names)
    presets = parser.add_argument(
        "--preset",
        metavar="NAME",
        default=preset,
        help=f"{', '.join(preset_names())}, or a .yaml of your own, which may extend one; default: %(default)s",
    )
    offer(presets, preset_names)
    says = "change one setting, e.g. training.epochs=2; may be repeated; 'show-config' lists the names"
    add_repeated(parser, "--set", "NAME=VALUE", says, _assignments)
    add_plugin_option(parser, "models, samplers, activations, features or metrics")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for artifacts, metadata, logs and pushed models; default: the preset's"
    )


def _assignments() -> list[str]:
    from ctr.models.validation import setting_names
    from ctr.pipeline.settings.pipeline_config import PipelineConfig

    return [f"{name}=" for name in setting_names(PipelineConfig)]


def add_plugin_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds ``--plugin``, which registers more of ``what``."""
    says = f"import this module, which registers further {what}; may be repeated"
    add_repeated(parser, "--plugin", "MODULE", says)


def configuration(options: argparse.Namespace, swept: Mapping[str, Sequence[str]] | None = None) -> PipelineConfig:
    """The configuration that a command's options ask for; ``swept`` as for :func:`load_preset`.

    Raises:
      ConfigError: if there is none.
    """
    from ctr.pipeline.settings.pipeline_config import load_preset

    config = load_preset(options.preset, options.set, options.plugin, swept, options.dataset)
    given = {name: getattr(options, name) for name in ("data", "output") if getattr(options, name) is not None}
    return config.with_overrides(given)

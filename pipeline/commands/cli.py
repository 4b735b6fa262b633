"""The command line ``ctr``: which commands there are, logging, and the exit codes of errors.

Each command's parser stands beside what it does, in the module of its subject. Only what argument parsing and
configuration need is imported by these; TensorFlow and TFX come with the command that uses them.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Sequence
from types import ModuleType

import absl.logging

from ctr import __version__
from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.commands.command_line import (
    EXIT_CODES,
    FAILED,
    INTERRUPTED,
    USAGE,
    HelpFormatter,
    program,
)
from ctr.pipeline.process.endings import Interrupted
from ctr.pipeline.process.terminal import LOG_FORMAT


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      arguments: without the program's name; None takes those of the process.

    Returns:
      The exit code; see ``--help``.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments[:1]).parse_args(arguments)
    absl.logging.set_verbosity(absl.logging.INFO if options.verbose else absl.logging.WARNING)
    if options.verbose:
        logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    else:
        # Read when TensorFlow's library is loaded; its start-up notes say nothing to a user of the command line.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with warnings.catch_warnings():
            if not options.verbose:
                # Libraries warn of the Python they run on at each import.
                warnings.simplefilter("ignore", FutureWarning)
            return int(options.command(options))
    except ConfigError as error:
        return _complain("configuration", _located(error, options), USAGE)
    except CtrError as error:
        return _complain("error", _located(error, options), FAILED)
    except ModuleNotFoundError as error:
        if importlib.util.find_spec("tfx") is not None:
            raise
        brings = "is not installed; the package's extra 'pipeline' brings it"
        return _complain("error", f"this command needs {error.name}, which {brings}", FAILED)
    except Interrupted as error:
        return _complain("interrupted", error, error.code)
    except KeyboardInterrupt:
        return _complain("interrupted", "stopped before the end", INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone: nothing is left to say, nor to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _located(error: CtrError, options: argparse.Namespace) -> str:
    """What is wrong, with the line of the log's description that it is about."""
    name = getattr(options, "dataset", None)
    if name is None:
        return str(error)
    from ctr.pipeline.settings.datasets import located

    return located(str(error), name)


def _complain(kind: str, error: object, code: int) -> int:
    text = str(error)
    print(f"{kind}:\n{textwrap.indent(text, '  ')}" if "\n" in text else f"{kind}: {text}", file=sys.stderr)
    return code


def _parser(command: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program(),
        description="Click-through-rate prediction from behaviour logs: train, judge, serve and ask a ranking model.",
        epilog=f"""\
examples:
  %(prog)s generate --users 3000 --output log.csv
  %(prog)s run --data log.csv --preset demo --output output/mine
  %(prog)s sweep --data log.csv --preset demo --output output/mine --models dnn,din --seeds 3
  %(prog)s serve --output output/mine
  %(prog)s predict --output output/mine
  %(prog)s submit --host http://localhost:8080 --data /data --wait

{EXIT_CODES}""",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ctr-pipeline {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for subject in _subjects(command):
        subject.add(commands)
    return parser


def _subjects(command: Sequence[str]) -> Sequence[ModuleType]:
    """The modules that add commands, in the order of the help; what is to start fast loads no others."""
    if "predict" in command:
        from ctr.pipeline.commands import predict

        return (predict,)
    from ctr.pipeline.commands import container

    if set(command) & set(container.NAMES):
        return (container,)
    from ctr.pipeline.commands import (
        clean,
        completion,
        data,
        demo,
        generate,
        history,
        kubeflow,
        predict,
        release,
        report,
        run,
        serving,
        show_config,
        sweep,
    )

    people = (
        run,
        report,
        sweep,
        history,
        serving,
        predict,
        release,
        data,
        generate,
        show_config,
        clean,
        demo,
        kubeflow,
    )
    return (*people, container, completion)

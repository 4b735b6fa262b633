"""``completion``: for shells, made from the parser: commands, options, their values and the names of settings."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from typing import Any, Final

from ctr.pipeline.commands.command_line import OK, add_command

SHELLS: Final = ("bash", "zsh")

_ZSH_HEAD: Final = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"
_SCRIPT: Final = """\
# Completes ctr, whatever its path.
_ctr() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    local line="${{COMP_LINE:0:$COMP_POINT}}" offered=""
    COMPREPLY=()
    local rest="${{line#*ctr }}"
    local command="${{rest%%[[:space:]]*}}"
    # `=` parts words: `--set training.epochs=2` has the value of an option no more.
    [[ "$word" == "=" || "$before" == "=" ]] && return 0
    if [[ "$rest" != *" "* ]]; then
        offered={commands}
    else
        case "$command $before" in
{values}
        *)
            case "$command" in
{options}
            esac
        esac
    fi
    COMPREPLY=($(compgen -W "$offered" -- "$word"))
    [[ ${{#COMPREPLY[@]}} -eq 1 && "${{COMPREPLY[0]}}" == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}}
complete -o bashdefault -o default -F _ctr ctr
"""


def add(commands: Any) -> None:
    """Adds the command of this module."""

    def completion(options: argparse.Namespace) -> int:
        print(script(commands, options.shell), end="")
        return OK

    parser = add_command(
        commands,
        "completion",
        completion,
        "write what makes a shell complete commands, options and settings with the Tab key",
        """\
examples:
  source <(%(prog)s bash)
  source <(%(prog)s zsh)
""",
    )
    parser.add_argument("shell", choices=SHELLS)


def script(subparsers: Any, shell: str) -> str:
    """What a shell has to source.

    Args:
      subparsers: of the whole command line, as ``add_subparsers`` returned them.
      shell: one of :data:`SHELLS`.
    """
    # Those of the first help screen.
    commands = {listed.dest: subparsers.choices[listed.dest] for listed in subparsers._choices_actions}
    values = [
        f"        {_pattern(f'{command} {option}' for option in action.option_strings)}) "
        # Where nothing is offered, the shell gives names of files.
        f"offered={_words(_offers_of(action))} ;;"
        for command, sub in commands.items()
        for action in sub._actions
        if action.option_strings and action.nargs != 0
    ]
    options = [
        f"            {shlex.quote(command)}) offered={_words(_words_of(sub))} ;;" for command, sub in commands.items()
    ]
    text = _SCRIPT.format(commands=_words(commands), values="\n".join(values), options="\n".join(options))
    return (_ZSH_HEAD if shell == "zsh" else "") + text


def _offers_of(action: argparse.Action) -> Iterable[str]:
    return action.offers() if hasattr(action, "offers") else action.choices or ()


def _words_of(parser: argparse.ArgumentParser) -> list[str]:
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    positional = [choice for action in parser._actions if not action.option_strings for choice in action.choices or ()]
    return [*options, *positional]


def _words(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


def _pattern(words: Iterable[str]) -> str:
    return "|".join(shlex.quote(word) for word in words)

"""Completion for shells, made from the parser: commands, options, their values and the names of settings."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator
from typing import Final

from pydantic import BaseModel

from models.validation import setting_names

SHELLS: Final = ("bash", "zsh")

_ZSH_HEAD: Final = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"
_SCRIPT: Final = """\
# Completes `python -m pipeline`, whatever the path of python; other uses of python get names of files.
_ctr_pipeline() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    local line="${{COMP_LINE:0:$COMP_POINT}}" offered=""
    COMPREPLY=()
    [[ "$line" == *" -m pipeline "* ]] || return 0
    local rest="${{line#* -m pipeline }}"
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
complete -o bashdefault -o default -F _ctr_pipeline python python3
"""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What a shell has to source.

    Args:
      parser: of the whole command line.
      shell: one of :data:`SHELLS`.
    """
    commands = _commands(parser)
    values = [
        f"        {_pattern(f'{command} {option}' for option in action.option_strings)}) "
        # Where nothing is offered, the shell gives names of files.
        f"offered={_words(getattr(action, 'offers', action.choices) or ())} ;;"
        for command, sub in commands.items()
        for action in sub._actions
        if action.option_strings and action.nargs != 0
    ]
    options = [
        f"            {shlex.quote(command)}) offered={_words(_words_of(sub))} ;;" for command, sub in commands.items()
    ]
    text = _SCRIPT.format(commands=_words(commands), values="\n".join(values), options="\n".join(options))
    return (_ZSH_HEAD if shell == "zsh" else "") + text


def offer(action: argparse.Action, values: Iterable[str]) -> None:
    """Makes the values of an option that has no choices known to completion."""
    action.offers = tuple(values)  # type: ignore[attr-defined]


def settings(model: type[BaseModel]) -> Iterator[str]:
    """``name=`` of every setting of a configuration, dotted."""
    return (f"{name}=" for name in setting_names(model))


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of the first help screen."""
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {listed.dest: action.choices[listed.dest] for listed in action._choices_actions}


def _words_of(parser: argparse.ArgumentParser) -> list[str]:
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    positional = [choice for action in parser._actions if not action.option_strings for choice in action.choices or ()]
    return [*options, *positional]


def _words(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


def _pattern(words: Iterable[str]) -> str:
    return "|".join(shlex.quote(word) for word in words)

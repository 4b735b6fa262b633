"""The text of a ``models.config``, changed in place: what a person wrote beside it, comments above all, stays."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ctr.models.errors import ConfigError

_TOKEN: Final = re.compile(r"""(?P<blank>\s+)|(?P<comment>\#[^\n]*)|"(\\.|[^"\\])*"|'(\\.|[^'\\])*'|[\w.+-]+|.""")
_CLOSING: Final = {"{": "}", "<": ">", "[": "]"}
_LABELS: Final = "version_labels"
_POLICY: Final = "model_version_policy"


class _Token(NamedTuple):
    text: str
    start: int
    end: int


class _Field(NamedTuple):
    name: str
    start: int
    end: int
    """With a comma or a semicolon behind it."""
    inner: Sequence[_Token]
    """Of a message what is between its brackets; of all else nothing."""
    closing: int
    """Where a message ends: its last bracket."""


def edited(text: str, config: Any, model: str, labels: Collection[str]) -> str:
    """The text with some labels of a model, and its policy, as a message has them.

    Args:
      text: a ``ModelServerConfig`` with a list of models, in protobuf's text format.
      config: that message as it is to be; it differs in nothing else.
      model: the name of its entry, which the text may lack.
      labels: those that are taken from the message. Others stay.

    Raises:
      ConfigError: if the text has comments, and a form in which they cannot be kept.
    """
    wanted = next(each for each in config.model_config_list.config if each.name == model)
    lists = [field for field in _fields(_tokens(text)) if field.name == "model_config_list"]
    entries = [(field, one) for one in lists for field in _fields(one.inner) if field.name == "config"]
    entry = next((field for field, _ in entries if _name(text, field) == model), None)
    if entry is not None:
        changed = _with_entry(text, entry, wanted, labels)
    else:
        added = text_format.MessageToString(wanted, indent=4)
        changed = _inserted(text, lists[-1].closing, f"  config {{\n{added}  }}\n")
    if _same(changed, config):
        return changed
    if any(match["comment"] for match in _TOKEN.finditer(text)):
        raise ConfigError(
            "its comments could not be kept; write models as config { ... } and labels as version_labels { ... }, each "
            "by itself, or take the comments out"
        )
    return str(text_format.MessageToString(config))


def _same(text: str, config: Any) -> bool:
    try:
        return bool(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()) == config)
    except text_format.ParseError:
        return False


def _tokens(text: str) -> list[_Token]:
    return [
        _Token(match[0], match.start(), match.end())
        for match in _TOKEN.finditer(text)
        if not match["blank"] and not match["comment"]
    ]


def _fields(tokens: Sequence[_Token]) -> Iterator[_Field]:
    place = 0
    while place < len(tokens):
        name = tokens[place]
        place += 1 + (tokens[place + 1].text == ":")
        first, last = place, _last(tokens, place)
        place = last + 1
        if place < len(tokens) and tokens[place].text in ",;":
            place += 1
        inner = tokens[first + 1 : last] if tokens[first].text in "{<" else ()
        yield _Field(name.text, name.start, tokens[place - 1].end, inner, tokens[last].start)


def _last(tokens: Sequence[_Token], first: int) -> int:
    """Of a value's tokens: a bracket's other one, or the last of strings that stand behind one another."""
    last = first
    if tokens[first].text in _CLOSING:
        depth = 0
        for last in range(first, len(tokens)):
            depth += (tokens[last].text in _CLOSING) - (tokens[last].text in _CLOSING.values())
            if not depth:
                break
        return last
    while tokens[last].text[0] in "\"'" and last + 1 < len(tokens) and tokens[last + 1].text[0] in "\"'":
        last += 1
    return last


def _name(text: str, entry: _Field) -> str:
    body = text[entry.inner[0].start : entry.closing] if entry.inner else ""
    return str(text_format.Parse(body, model_server_config_pb2.ModelConfig()).name)


def _labels(text: str, field: _Field) -> set[str]:
    return {*text_format.Parse(text[field.start : field.end], model_server_config_pb2.ModelConfig()).version_labels}


def _with_entry(text: str, entry: _Field, wanted: Any, labels: Collection[str]) -> str:
    stale = [
        field
        for field in _fields(entry.inner)
        if field.name == _POLICY or (field.name == _LABELS and not _labels(text, field).isdisjoint(labels))
    ]
    own = model_server_config_pb2.ModelConfig()
    own.version_labels.update({label: number for label, number in wanted.version_labels.items() if label in labels})
    if wanted.HasField(_POLICY):
        own.model_version_policy.CopyFrom(wanted.model_version_policy)
    # What was written within them stands before them from now on.
    within = (match for field in stale for match in _TOKEN.finditer(text[field.start : field.end]))
    comments = [f"    {match[0]}\n" for match in within if match["comment"]]
    place = stale[0].start if stale else entry.closing
    changed = _inserted(text, place, "".join(comments) + text_format.MessageToString(own, indent=4))
    grown = len(changed) - len(text)
    for field in reversed(stale):
        start, end = (at + grown for at in (field.start, field.end))
        line = changed.rfind("\n", 0, start) + 1
        if not changed[line:start].strip() and re.match(r"[ \t]*\n", changed[end:]):
            start, end = line, changed.index("\n", end) + 1
        changed = changed[:start] + changed[end:]
    return changed


def _inserted(text: str, place: int, lines: str) -> str:
    """Lines before what stands at a place, which begins a line from then on."""
    line = text.rfind("\n", 0, place) + 1
    if text[line:place].strip():
        return f"{text[:place].rstrip(' ')}\n{lines}{text[place:]}"
    return text[:line] + lines + text[line:]

"""A path with a place for a span: ``day-{SPAN}/log.csv``, ``{YYYY}-{MM}-{DD}.csv``, each with or without ``{VERSION}``.

These are TFX's placeholders, and what is written around them is a name to the letter. TFX's own driver makes a pattern
of the whole path.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from typing import Final, NamedTuple

from ctr.components.dataset import PUBLIC_LOG, DatasetConfig
from ctr.components.files import is_address, list_folder
from ctr.components.impression_gen.sources import NoLogError, logs_in
from ctr.models.errors import ConfigError

_PLACE: Final = re.compile(r"\{(?:(?P<name>SPAN|VERSION)(?::(?P<width>[1-9]\d*))?|(?P<date>YYYY|MM|DD))\}")
_DATE: Final = ("YYYY", "MM", "DD")
_DIGITS: Final = {"YYYY": 4, "MM": 2, "DD": 2}
_EPOCH: Final = dt.date(1970, 1, 1)
_SHOWN: Final = 5


class Span(NamedTuple):
    """One span of a log; a larger one is later."""

    number: int
    """Days since 1970 where the path has a date."""
    version: int | None
    path: str


def has_span(data: str) -> bool:
    """Whether a path has a place for a span."""
    return _PLACE.search(data) is not None


def find_span(data: str, span: int | None, dataset: DatasetConfig = PUBLIC_LOG) -> Span:
    """The span to take, in its latest version.

    Args:
      data: a path with a place for a span.
      span: its number; None takes the latest that has logs.
      dataset: of the logs.

    Raises:
      NoLogError: if there is none.
      ConfigError: if the places do not make a span.
    """
    if dataset.format == "bigquery":
        raise ConfigError(f"data: {data} is a table, which has no spans; write its whole name")
    _check_places(data)
    spans = sorted(_spans(data), key=lambda found: (found.number, found.version or 0, found.path), reverse=True)
    wanted = [found for found in spans if span is None or found.number == span]
    for found in wanted:
        if dataset.is_log(found.path) or logs_in(found.path, dataset).files:
            return found
    there = sorted({found.number for found in spans}, reverse=True)
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    known = f"there are {', '.join(map(str, there[:_SHOWN]))}{more}" if there else "nothing has such a name"
    if span is None:
        raise NoLogError(f"data: {data} has no span with a log; {known}")
    raise NoLogError(f"span: {data} has no log for {span}; {known}")


def _check_places(data: str) -> None:
    names = [place["name"] or place["date"] for place in _PLACE.finditer(data)]
    again = sorted({name for name in names if names.count(name) > 1})
    if again:
        raise ConfigError(f"data: {data} has {{{again[0]}}} more than once")
    if set(names) - {"VERSION"} not in ({"SPAN"}, set(_DATE)):
        raise ConfigError(f"data: {data} must hold either {{SPAN}} or {{YYYY}}, {{MM}} and {{DD}}; it holds {names}")


def _spans(data: str) -> list[Span]:
    """Every path that fits, its folders looked for one by one."""
    found: list[tuple[str, dict[str, str]]] = [("", {})]
    for part in re.split(r"(?<=/)", data):
        name = part.rstrip("/")
        if not _PLACE.search(name):
            found = [(folder + part, values) for folder, values in found]
            continue
        wanted = _regex(name)
        found = [
            (folder + entry + part[len(name) :], {**values, **match.groupdict()})
            for folder, values in found
            if is_address(folder) or os.path.isdir(folder or ".")
            for entry in list_folder(folder or ".")
            if (match := wanted.fullmatch(entry))
        ]
    spans = []
    for path, values in found:
        if (number := _number(values)) is not None and (is_address(path) or os.path.exists(path)):
            version = int(values["VERSION"]) if "VERSION" in values else None
            spans.append(Span(number, version, path))
    return spans


def _regex(name: str) -> re.Pattern[str]:
    text, end = "", 0
    for place in _PLACE.finditer(name):
        kind = place["name"] or place["date"]
        width = place["width"] or _DIGITS.get(kind)
        text += re.escape(name[end : place.start()]) + rf"(?P<{kind}>\d{f'{{{width}}}' if width else '+'})"
        end = place.end()
    return re.compile(text + re.escape(name[end:]))


def _number(values: dict[str, str]) -> int | None:
    if "SPAN" in values:
        return int(values["SPAN"])
    try:
        return (dt.date(*(int(values[name]) for name in _DATE)) - _EPOCH).days
    except ValueError:
        # Digits such as 2017-13-99 are another kind of name.
        return None

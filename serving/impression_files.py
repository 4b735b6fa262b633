"""Files of impressions, read one request at a time: JSON, JSON lines or CSV. What is none is named and set apart."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import PurePath
from types import MappingProxyType
from typing import IO, Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from ctr.models import impression as names
from ctr.models.string_ids import id_of
from ctr.models.validation import instead_of
from ctr.serving.impressions import Impression, ImpressionError, described

STANDARD_INPUT: Final = "-"
REQUEST: Final = "request"
"""The key, or the column, that names a request; without it its line does."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_INTEGER: Final = re.compile(r"-?[0-9]{1,30}")
_OF_PART: Final = re.compile(r"(history|candidates)\.(\d+)\.?(.*)", re.DOTALL)

_GROUPS: Final[tuple[names.Group, ...]] = ("history", "candidate", "context_input")

_Line = tuple[int, bytes]


class Asked(NamedTuple):
    """A request that can be sent."""

    request: str | None
    """Its name; None of the only one of a file that names none."""
    place: str
    """``FILE:LINE``."""
    text: str
    """As it stood there."""
    impression: Impression
    strings: Mapping[int, str] = MappingProxyType({})
    """Number -> the string that stands for it there."""


class Refused(NamedTuple):
    """A request that cannot be sent, or was not answered."""

    request: str | None
    text: str
    problems: tuple[str, ...]
    """Each begins with ``FILE:LINE``, and names the field where it is one's."""


def read_impressions(
    path: str, form: str | None = None, string_ids: Set[str] = frozenset()
) -> Iterator[Asked | Refused]:
    """Reads requests as they come.

    JSON is an impression (``serving/impressions.py``) or a list of them; JSON lines have one in each line. CSV has a
    row for each event or candidate, with the names of the JSON form as its header: a row with a behaviour or an age is
    an event of the history, oldest first, any other is a candidate. Rows of one ``request`` stand together; without
    that column all are of one. A declared feature of the request or the user stands in any of its rows.

    Args:
      path: of the file; ``-`` is standard input.
      form: one of :data:`FORMATS`; None takes it from the file's ending, else from how it begins.
      string_ids: of ``item_id`` and ``category_id`` those that are strings in the log; ``models/string_ids.py`` makes
        numbers of them. In JSON they may be numbers, too.

    Raises:
      ImpressionError: if the file cannot be read, is not of its form, or is a single impression that cannot be sent.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    try:
        # Not sys.stdin, whose lock must be free when the program ends.
        with open(0 if path == STANDARD_INPUT else path, "rb", closefd=path != STANDARD_INPUT) as file:
            lines = _lines(file)
            ending = PurePath(path).suffix.lower()
            # Of a stream the second line may be long in coming.
            first = list(itertools.islice(lines, 2 if ending == ".json" else 1))
            form = form or _FORM_OF_ENDING.get(ending) or _form(first, alone=ending == ".json" and len(first) < 2)
            yield from FORMATS[form](itertools.chain(first, lines), name, string_ids)
    except OSError as error:
        raise ImpressionError(f"{name}: cannot be read: {error.strerror}") from error


def _lines(file: IO[bytes]) -> Iterator[_Line]:
    """Those that are not blank."""
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if text.strip():
            yield number, text


def _form(first: list[_Line], alone: bool) -> str:
    text = first[0][1].strip() if first else b"{"
    if not text.startswith((b"{", b"[")):
        return "csv"
    with contextlib.suppress(ValueError):
        if not alone and isinstance(from_json(text), dict):
            return "jsonl"
    return "json"


def _from_json(lines: Iterable[_Line], name: str, string_ids: Set[str]) -> Iterator[Asked | Refused]:
    # Blank lines count in the place that an error names.
    text, last = bytearray(), 0
    for number, line in lines:
        text += b"\n" * (number - last - 1) + line
        last = number
    try:
        content = from_json(bytes(text))
    except ValueError as error:
        raise ImpressionError(f"{name}: not an impression\n  impression: Invalid JSON: {error}") from error
    if isinstance(content, list):
        for index, each in enumerate(content):
            yield _row(each, f"{name}[{index}]", str(index), "", string_ids)
        return
    row = _row(content, name, None, text.decode(), string_ids)
    if isinstance(row, Refused):
        problems = "\n  ".join(problem.removeprefix(f"{name}: ") for problem in row.problems)
        raise ImpressionError(f"{name}: not an impression\n  {problems}")
    yield row


def _from_json_lines(lines: Iterable[_Line], name: str, string_ids: Set[str]) -> Iterator[Asked | Refused]:
    for number, line in lines:
        place, text = f"{name}:{number}", line.decode(errors="replace").rstrip()
        try:
            content = from_json(line.strip())
        except ValueError as error:
            problem = str(error).replace(" line 1 ", " ")
            yield Refused(str(number), text, (f"{place}: Invalid JSON: {problem}",))
        else:
            yield _row(content, place, str(number), text, string_ids)


def _row(content: Any, place: str, request: str | None, text: str, string_ids: Set[str]) -> Asked | Refused:
    if isinstance(content, Mapping) and isinstance(named := content.get(REQUEST), str | int):
        request = str(named)
        content = {key: value for key, value in content.items() if key != REQUEST}
    content, strings = _numbered(content, string_ids)
    try:
        return Asked(request, place, text, Impression.model_validate(content), strings)
    except ValidationError as error:
        return Refused(request, text, tuple(f"{place}: {problem}" for problem in described(error)))


def _numbered(content: Any, string_ids: Set[str]) -> tuple[Any, dict[int, str]]:
    """A request with numbers for its strings, and number -> string."""
    strings: dict[int, str] = {}

    def of(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        found = {key: id_of(part[key]) for key in string_ids & part.keys() if part[key] and isinstance(part[key], str)}
        strings.update((number, part[key]) for key, number in found.items())
        return {**part, **found}

    if not string_ids or not isinstance(content, Mapping):
        return content, strings
    lists = {key: [of(part) for part in parts] for key, parts in content.items() if isinstance(parts, list)}
    return {**content, **lists}, strings


class _Columns:
    """What the header of a CSV says."""

    def __init__(self, header: list[str], place: str) -> None:
        self.names = [column.strip() for column in header]
        of_group = {group: names.features_of(group) for group in _GROUPS}
        self.declared = {
            feature.declared: feature
            for feature in itertools.chain(*of_group.values())
            if feature.declared and feature.served is None
        }
        self.own = {feature.declared for feature in of_group["context_input"]}
        event, candidate = (
            [feature.key for feature in of_group[group] if not feature.declared] for group in ("history", "candidate")
        )
        known = list(dict.fromkeys([REQUEST, *candidate, *event, *self.declared]))
        for column in self.names:
            if column not in known:
                raise ImpressionError(f"{place}: {column}: unknown column; {instead_of(column, known)}")
            if self.names.count(column) > 1:
                raise ImpressionError(f"{place}: {column}: stands there twice")
        if lacking := [column for column in candidate if column not in self.names]:
            raise ImpressionError(f"{place}: the header lacks {', '.join(lacking)}; there may be {', '.join(known)}")
        self.of_events_alone = set(event) - set(candidate)

    def value(self, column: str, cell: str, string_ids: Set[str]) -> Any:
        """Of a cell that is not empty; what is none is left for the impression to refuse."""
        feature = self.declared.get(column)
        if feature is not None:
            if feature.separator:
                return cell.split(feature.separator)
            with contextlib.suppress(ValueError):
                return float(cell) if feature.dtype == "float" else cell
            return cell
        return int(cell) if column not in string_ids and _INTEGER.fullmatch(cell) else cell


def _from_csv(lines: Iterable[_Line], name: str, string_ids: Set[str]) -> Iterator[Asked | Refused]:
    rows = iter(lines)
    number, header = next(rows, (1, b""))
    columns = _Columns(list(_cells(header)), f"{name}:{number}")
    seen: set[str] = set()

    def request_of(line: _Line) -> str:
        return dict(zip(columns.names, _cells(line[1]), strict=False)).get(REQUEST, "1")

    for request, group in itertools.groupby(rows, request_of):
        yield _of_rows(request, list(group), columns, name, request in seen, string_ids)
        seen.add(request)


def _of_rows(
    request: str, rows: list[_Line], columns: _Columns, name: str, again: bool, string_ids: Set[str]
) -> Asked | Refused:
    text = b"".join(line for _, line in rows).decode(errors="replace")
    place = f"{name}:{rows[0][0]}"
    problems = []
    if again:
        problems.append(f"{place}: {REQUEST}: {request!r} has rows above, which were asked without these; rows of a "
                        "request stand together")  # fmt: skip
    content: dict[str, list[dict[str, Any]]] = {"history": [], "candidates": []}
    own: dict[str, Any] = {}
    numbers: dict[str, list[int]] = {"history": [], "candidates": []}
    for number, line in rows:
        cells = _cells(line)
        if isinstance(cells, str) or len(cells) != len(columns.names):
            found = cells if isinstance(cells, str) else len(cells)
            problems.append(f"{name}:{number}: expected {len(columns.names)} values, found {found}")
            continue
        values = {
            column: columns.value(column, cell, string_ids)
            for column, cell in zip(columns.names, cells, strict=True)
            if cell and column != REQUEST
        }
        for column in columns.own & values.keys():
            value = values.pop(column)
            if own.setdefault(column, value) != value:
                problems.append(f"{name}:{number}: {column}: {value!r}, and {own[column]!r} above; a request has one")
        part = "history" if columns.of_events_alone & values.keys() else "candidates"
        content[part].append(values)
        numbers[part].append(number)
    if not problems:
        numbered, strings = _numbered({**content, **own}, string_ids)
        try:
            return Asked(request, place, text, Impression.model_validate(numbered), strings)
        except ValidationError as error:
            problems = [_placed(problem, numbers, name, place) for problem in described(error)]
    return Refused(request, text, tuple(problems))


def _placed(problem: str, numbers: Mapping[str, list[int]], name: str, place: str) -> str:
    """With the line of the row that it is of, instead of the row's index."""
    found = _OF_PART.fullmatch(problem)
    return f"{name}:{numbers[found[1]][int(found[2])]}: {found[3]}" if found else f"{place}: {problem}"


def _cells(line: bytes) -> list[str] | str:
    """The values of a row, or what is wrong with it."""
    try:
        return next(csv.reader([line.decode(errors="replace")], strict=True), [])
    except csv.Error as error:
        return f"none: {error}"


FORMATS: Final[dict[str, Callable[[Iterable[_Line], str, Set[str]], Iterator[Asked | Refused]]]] = {
    "json": _from_json,
    "jsonl": _from_json_lines,
    "csv": _from_csv,
}
_FORM_OF_ENDING: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}

"""What is wrong with settings, in words: one translation of pydantic's errors for every typed input."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

_MUST: Final = {
    kind: text
    for kinds, text in {
        "int_type int_parsing int_parsing_size int_from_float": "must be a whole number",
        "float_type float_parsing": "must be a number",
        "finite_number": "must be a number, and finite",
        "bool_type bool_parsing": "must be true or false",
        "string_type": "must be text",
        "tuple_type list_type": "must be a list such as [a, b]",
        "dict_type": "must be a mapping such as {name: value}",
        "datetime_type datetime_parsing datetime_from_date_parsing": "must be a date and time such as "
        "2017-11-25T00:00:00",
        "timezone_naive": "must be a local time of the log's zone, without an offset",
    }.items()
    for kind in kinds.split()
}
_BOUNDS: Final = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_OUT_OF_BOUNDS: Final = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_LONGEST_INPUT: Final = 80

_Schemas = Sequence[Mapping[str, Any]]


def problems(error: ValidationError, model: type[BaseModel], whole: str = "configuration") -> list[str]:
    """A line for each wrong field: its dotted name, what it must be, and what was found.

    Unknown keys are answered with the nearest known one and the list of all, impossible values with the choices or
    bounds of their field.

    Args:
      error: what ``model`` raised.
      model: the model that was validated, of which the names and bounds are read.
      whole: stands for the name of what is wrong as a whole.
    """
    schema = _Schema(model)
    lines = [_line(problem, schema, whole) for problem in error.errors(include_url=False)]
    return list(dict.fromkeys(lines))


def setting_names(model: type[BaseModel]) -> list[str]:
    """The dotted name of every setting of a configuration, sections left out."""
    names = list(_Schema(model).dotted_names())
    return [name for name in names if not any(other.startswith(f"{name}.") for other in names)]


def instead_of(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown name, e.g. ``did you mean din? There are dnn, din``."""
    names = list(known)
    near = nearest(name, names)
    listed = f"there are {', '.join(names)}" if names else "there are none"
    return f"did you mean {near}? {listed[0].upper()}{listed[1:]}" if near else listed


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another, None where none is like it."""
    alike = difflib.get_close_matches(name, list(known), n=3)

    def likeness(other: str) -> tuple[float, int]:
        # Of equally near ones, the one that begins like it.
        alike_at_first = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(name, other, strict=False))
        return difflib.SequenceMatcher(None, name, other).ratio(), len(list(alike_at_first))

    return max(alike, key=likeness, default=None)


class _Schema:
    """The JSON schema of a model, walked by the places of pydantic's errors."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._root = model.model_json_schema()

    def at(self, place: Sequence[str | int]) -> tuple[_Schemas, list[str]]:
        """The alternatives of a place, and its name's parts; parts that name no key (a union's member) are left out."""
        schemas: _Schemas = self._alternatives([self._root])
        name: list[str] = []
        for part in place:
            below = [found for schema in schemas if (found := self._child(schema, part)) is not None]
            if below:
                schemas = self._alternatives(below)
                name.append(str(part))
        return schemas, name

    def keys(self, schemas: _Schemas) -> list[str]:
        """The keys that may stand in a place."""
        return list(dict.fromkeys(key for schema in schemas for key in schema.get("properties", {})))

    def dotted_names(self) -> Iterator[str]:
        """Every setting, from the root."""
        yield from self._names([self._root], "", ())

    def _names(self, schemas: _Schemas, prefix: str, seen: tuple[str, ...]) -> Iterator[str]:
        for schema in self._alternatives(schemas):
            for key, value in schema.get("properties", {}).items():
                yield f"{prefix}{key}"
                reference = str(value.get("$ref"))
                if reference not in seen:
                    yield from self._names([value], f"{prefix}{key}.", (*seen, reference))

    def _alternatives(self, schemas: _Schemas) -> _Schemas:
        found: list[Mapping[str, Any]] = []
        for schema in schemas:
            if "$ref" in schema:
                definition = self._root["$defs"][schema["$ref"].rpartition("/")[2]]
                found += self._alternatives([definition])
            elif inner := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
                found += self._alternatives(inner)
            else:
                found.append(schema)
        return found

    def _child(self, schema: Mapping[str, Any], part: str | int) -> Mapping[str, Any] | None:
        if isinstance(part, int):
            items = schema.get("items") or next(iter(schema.get("prefixItems", [])), None)
            return items if isinstance(items, dict) else {} if schema.get("type") == "array" else None
        if part in schema.get("properties", {}):
            child: Mapping[str, Any] = schema["properties"][part]
            return child
        more = schema.get("additionalProperties")
        return more if isinstance(more, dict) else None


def _line(problem: Mapping[str, Any], schema: _Schema, whole: str) -> str:
    kind, place, found = problem["type"], problem["loc"], problem.get("input")
    if kind == "extra_forbidden":
        schemas, name = schema.at(place[:-1])
        return _unknown_key(str(place[-1]), name, schema.keys(schemas), schema)
    schemas, name = schema.at(place)
    text = _must(problem, schemas, name, schema)
    if isinstance(found, str | int | float | None) and kind not in ("missing", "json_invalid"):
        text += f" (got {found!r:.{_LONGEST_INPUT}})"
    return f"{'.'.join(name) or whole}: {text}"


def _unknown_key(key: str, parents: list[str], known: list[str], schema: _Schema) -> str:
    where = ".".join([*parents, key])
    elsewhere = [name for name in schema.dotted_names() if name.rpartition(".")[2] == key]
    if elsewhere and nearest(key, known) is None:
        return f"{where}: unknown key; did you mean {' or '.join(elsewhere)}?"
    return f"{where}: unknown key; {instead_of(key, known)}"


def _must(problem: Mapping[str, Any], schemas: _Schemas, name: list[str], schema: _Schema) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    choices = [str(value) for each in schemas for value in each.get("enum", [each["const"]] if "const" in each else [])]
    if kind == "literal_error" and choices:
        near = nearest(str(problem["input"]), choices)
        return f"must be one of {', '.join(choices)}" + (f"; did you mean {near}?" if near else "")
    bounds = " and ".join(
        f"{words} {_number(each[name])}" for each in schemas for name, words in _BOUNDS.items() if name in each
    )
    if kind in _OUT_OF_BOUNDS and bounds:
        return f"must be {bounds}"
    if kind in ("model_type", "model_attributes_type"):
        keys = schema.keys(schemas)
        return f"is no single value; give its parts, e.g. {'.'.join([*name, keys[0]])}; {instead_of('', keys)}"
    if kind in _MUST:
        return _MUST[kind] + (f", {bounds}" if bounds else "")
    if kind == "missing":
        return "is missing"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}"
    if kind in ("too_short", "too_long"):
        bound, key = ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
        limit = context[key]
        items = f"{limit:,} item{'s' * (limit != 1)}"
        return f"must have {bound} {items} (has {context['actual_length']:,})"
    return str(problem["msg"]).removeprefix("Value error, ")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or (value >= 1e6 and value.is_integer()) else f"{value:g}"

"""What a client sends and gets back: one raw impression, and its ranked candidates.

The JSON form, read by ``ctr predict --impression FILE.json``::

    {"history": [{"item_id": 12, "category_id": 3, "behavior": "pv", "age_seconds": 3600}],
     "candidates": [{"item_id": 7, "category_id": 3}, {"item_id": 9, "category_id": 4}]}

Declared features stand beside these by their names, those of the user and of the request beside ``history``: numbers,
or what a category is called, or a list of that. One that is left out, or null, is missing.

Importing this module loads neither TensorFlow nor gRPC.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from ctr.models import impression as names
from ctr.models.errors import CtrError
from ctr.models.section import Record
from ctr.models.string_ids import category_of
from ctr.models.validation import problems

MAX_CANDIDATES = 10_000
"""Candidates of one request."""

_GROUPS: Final[dict[str, names.Group]] = {"history": "history", "candidates": "candidate"}
"""Field of :class:`Impression` -> the features of each of its parts."""
_OWN: Final[names.Group] = "context_input"


def _within(feature: str) -> Any:
    return Field(strict=True, ge=names.FEATURES[feature].smallest, le=names.FEATURES[feature].largest)


class ImpressionError(CtrError, ValueError):
    """An impression that cannot be sent; the message names each field and what it must be."""


def _id(value: Any) -> Any:
    return (category_of(value.encode()) if isinstance(value, str) else value) or None


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Category = Annotated[
    Annotated[int, Field(strict=True, ge=-names.NO_BOUND, le=names.NO_BOUND)] | None, BeforeValidator(_id)
]
"""A whole number, or a string; 0, and an empty one, are none."""


@functools.cache
def _model_of(features: tuple[names.Feature, ...]) -> type[Record]:
    fields: dict[str, Any] = {}
    for parts in _by_name(features).values():
        feature = parts[0]
        if not feature.declared:
            fields[feature.key] = (Annotated[int, _within(feature.name)], ...)
        elif feature.separator:
            fields[feature.declared] = (Annotated[tuple[Category, ...], Field(max_length=len(parts))] | None, None)
        else:
            fields[feature.declared] = (Number | None if feature.dtype == "float" else Category, None)
    return create_model("Registered", __base__=Record, **fields)


def _by_name(features: Iterable[names.Feature]) -> dict[str, list[names.Feature]]:
    """Key in a part of an impression -> its features, several where it has several values."""
    found: dict[str, list[names.Feature]] = {}
    for feature in features:
        if feature.served is None:
            found.setdefault(feature.declared or feature.key, []).append(feature)
    return found


class _Part(Record):
    """What has features of a group; those of plugins, and declared ones, stand beside its own fields."""

    model_config = ConfigDict(extra="allow")
    group: ClassVar[names.Group]

    @model_validator(mode="before")
    @classmethod
    def _check_registered(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        registered = cls._registered()
        others = {key: value for key, value in values.items() if key not in cls.model_fields}
        if not registered and not others:
            return values
        read = _model_of(registered).model_validate(others).model_dump()
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        return own | {key: value for key, value in read.items() if value is not None}

    @classmethod
    def _registered(cls) -> tuple[names.Feature, ...]:
        return tuple(feature for feature in names.features_of(cls.group) if feature.key not in cls.model_fields)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """With what is registered, by which errors are named."""
        own = handler.resolve_ref_schema(handler(schema))
        if registered := cls._registered():
            others = handler.resolve_ref_schema(handler(_model_of(registered).__pydantic_core_schema__))
            own["properties"] = {**own["properties"], **others["properties"]}
        own["additionalProperties"] = False
        return own


class Candidate(_Part):
    """An item that could be shown; features of plugins, and declared ones, stand beside its own fields."""

    group: ClassVar[names.Group] = "candidate"

    item_id: Annotated[int, _within(names.CANDIDATE_ITEM_ID)]
    category_id: Annotated[int, _within(names.CANDIDATE_CATEGORY_ID)]


class Event(Candidate):
    """Something the user did before the impression; features of plugins, and declared ones, stand beside its own
    fields."""

    group: ClassVar[names.Group] = "history"

    behavior: names.BehaviorName
    age_seconds: Annotated[int, _within(names.HISTORY_AGE)]
    """Seconds from the event to the impression, at least 1."""


class Impression(_Part):
    """One user context and the candidates to rank in it; declared features of the user and the request stand beside
    its own fields.

    Example:
      >>> impression = Impression(
      ...     history=[Event(item_id=12, category_id=3, behavior="pv", age_seconds=3600)],
      ...     candidates=[Candidate(item_id=7, category_id=3), Candidate(item_id=9, category_id=4)],
      ... )
      >>> impression.features()["candidate_item_id"]
      [7, 9]
    """

    group: ClassVar[names.Group] = _OWN

    history: Annotated[tuple[Event, ...], Field(max_length=names.MAX_HISTORY)]
    """The user's latest events, oldest first; empty for a new user."""
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=MAX_CANDIDATES)]

    @field_validator("history")
    @classmethod
    def _oldest_first(cls, history: tuple[Event, ...]) -> tuple[Event, ...]:
        for index, (earlier, later) in enumerate(itertools.pairwise(history), start=1):
            if later.age_seconds > earlier.age_seconds:
                raise ValueError(
                    f"events must stand oldest first, but event {index} ({later.age_seconds} s old) is older than "
                    f"the one before it ({earlier.age_seconds} s old)"
                )
        return history

    @classmethod
    def from_features(cls, values: Mapping[str, Iterable[Any]]) -> Impression:
        """From the raw features of ``models/impression.py``, for instance of a stored example.

        Args:
          values: feature name -> numbers; at least the features of ``REQUEST_FEATURES`` that are not declared, others
            are ignored. A declared one without any number is missing.

        Raises:
          ImpressionError: if a feature is missing, features of one kind differ in length, or a value is impossible.
        """
        given = {name: list(values[name]) for name in names.REQUEST_FEATURES if name in values}
        # Without a value it is missing, as in an example that a model is asked with.
        given = {name: each for name, each in given.items() if each or not names.FEATURES[name].declared}
        missing = [name for name in names.REQUEST_FEATURES if name not in given and not names.FEATURES[name].declared]
        if missing:
            raise ImpressionError(f"missing features: {', '.join(missing)}")
        content: dict[str, Any] = {}
        for part, group in _GROUPS.items():
            content[part] = _parts(given, group)
        own = _parts(given, _OWN)
        if len(own) > 1:
            raise ImpressionError(f"{next(iter(names.CONTEXT_FEATURES))}: has {len(own)} values, expected 1")
        content |= dict(*own)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ImpressionError(_indented(error)) from error

    def features(self) -> dict[str, list[Any]]:
        """The raw features of ``models/impression.py``: name -> unpadded numbers, in request order. A missing category
        is 0, a missing number NaN."""
        groups: dict[names.Group, Iterable[_Part]] = {group: getattr(self, part) for part, group in _GROUPS.items()}
        return {
            feature.name: [_value(part, several, place) for part in parts]
            for group, parts in (groups | {_OWN: [self]}).items()
            for several in _by_name(names.features_of(group)).values()
            for place, feature in enumerate(several)
        }


class RankedCandidate(Candidate):
    """A candidate with the model's opinion of it."""

    position: int
    """Its index among the request's candidates."""
    probability: float
    logit: float


class Ranking(Record):
    """The answer to one impression."""

    model_name: str
    model_version: int
    candidates: tuple[RankedCandidate, ...]
    """Most probable first."""


def load_impression(path: str | Path) -> Impression:
    """Reads an impression from a JSON file.

    Raises:
      ImpressionError: if the file cannot be read, is not JSON, or a field is missing, unknown or impossible.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ImpressionError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return Impression.model_validate_json(content)
    except ValidationError as error:
        raise ImpressionError(f"{path}: not an impression\n{_indented(error)}") from error


def _value(part: _Part, features: Sequence[names.Feature], place: int) -> Any:
    feature = features[place]
    if not feature.declared:
        value = getattr(part, feature.key)
        return feature.codes.get(value, value)
    value = getattr(part, feature.declared, None)
    if feature.separator:
        value = value[place] if value is not None and place < len(value) else None
    return (math.nan if feature.dtype == "float" else 0) if value is None else value


def _parts(given: Mapping[str, list[Any]], group: names.Group) -> list[dict[str, Any]]:
    """The parts of an impression by the values of its features."""
    there = {
        key: [feature for feature in features if feature.name in given]
        for key, features in _by_name(names.features_of(group)).items()
    }
    lengths = {feature.name: len(given[feature.name]) for features in there.values() for feature in features}
    if len(set(lengths.values())) > 1:
        raise ImpressionError(f"features must be of equal length, got {lengths}")
    count = next(iter(lengths.values()), 0)
    parts: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, features in there.items():
        words = {code: name for feature in features for name, code in feature.codes.items()}
        for number, row in enumerate(zip(*(given[feature.name] for feature in features), strict=True)):
            if features[0].separator:
                parts[number][key] = [int(value) for value in row if value]
            elif features[0].dtype != "float":
                parts[number][key] = words.get(int(row[0]), int(row[0]))
            elif not math.isnan(row[0]):
                parts[number][key] = float(row[0])
    return parts


def described(error: ValidationError) -> list[str]:
    """What is wrong with an impression: a line for each field."""
    lines = problems(error, Impression, whole="impression")
    # Parts that are wrong do not count as there, which says nothing of them.
    return [line for line in lines if not (line.startswith("candidates: ") and "candidates." in "".join(lines))]


def _indented(error: ValidationError) -> str:
    return "\n".join(f"  {line}" for line in described(error))

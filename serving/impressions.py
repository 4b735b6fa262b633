"""What a client sends and gets back: one raw impression, and its ranked candidates.

The JSON form, read by ``ctr predict --impression FILE.json``::

    {"history": [{"item_id": 12, "category_id": 3, "behavior": "pv", "age_seconds": 3600}],
     "candidates": [{"item_id": 7, "category_id": 3}, {"item_id": 9, "category_id": 4}]}

Importing this module loads neither TensorFlow nor gRPC.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from ctr.models import impression as names
from ctr.models.errors import CtrError
from ctr.models.section import Record
from ctr.models.validation import problems

MAX_CANDIDATES = 10_000
"""Candidates of one request."""

_GROUPS: Final[dict[str, names.Group]] = {"history": "history", "candidates": "candidate"}
"""Field of :class:`Impression` -> the features of each of its parts."""


def _within(feature: str) -> Any:
    return Field(strict=True, ge=names.FEATURES[feature].smallest, le=names.FEATURES[feature].largest)


class ImpressionError(CtrError, ValueError):
    """An impression that cannot be sent; the message names each field and what it must be."""


@functools.cache
def _model_of(features: tuple[names.Feature, ...]) -> type[Record]:
    fields: dict[str, Any] = {feature.key: (Annotated[int, _within(feature.name)], ...) for feature in features}
    return create_model("Registered", __base__=Record, **fields)


class Candidate(Record):
    """An item that could be shown; features of plugins stand beside its own fields."""

    model_config = ConfigDict(extra="allow")
    group: ClassVar[names.Group] = "candidate"

    item_id: Annotated[int, _within(names.CANDIDATE_ITEM_ID)]
    category_id: Annotated[int, _within(names.CANDIDATE_CATEGORY_ID)]

    @model_validator(mode="before")
    @classmethod
    def _check_registered(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            registered = tuple(f for f in names.features_of(cls.group) if f.key not in cls.model_fields)
            others = {key: value for key, value in values.items() if key not in cls.model_fields}
            if registered or others:
                _model_of(registered).model_validate(others)
        return values


class Event(Candidate):
    """Something the user did before the impression; features of plugins stand beside its own fields."""

    group: ClassVar[names.Group] = "history"

    behavior: names.BehaviorName
    age_seconds: Annotated[int, _within(names.HISTORY_AGE)]
    """Seconds from the event to the impression, at least 1."""


class Impression(Record):
    """One user context and the candidates to rank in it.

    Example:
      >>> impression = Impression(
      ...     history=[Event(item_id=12, category_id=3, behavior="pv", age_seconds=3600)],
      ...     candidates=[Candidate(item_id=7, category_id=3), Candidate(item_id=9, category_id=4)],
      ... )
      >>> impression.features()["candidate_item_id"]
      [7, 9]
    """

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
    def from_features(cls, values: Mapping[str, Iterable[int]]) -> Impression:
        """From the raw features of ``models/impression.py``, for instance of a stored example.

        Args:
          values: feature name -> integers; at least the features of ``REQUEST_FEATURES``, others are ignored.

        Raises:
          ImpressionError: if a feature is missing, features of one kind differ in length, or a value is impossible.
        """
        missing = [name for name in names.REQUEST_FEATURES if name not in values]
        if missing:
            raise ImpressionError(f"missing features: {', '.join(missing)}")
        content = {}
        for part, group in _GROUPS.items():
            features = names.features_of(group)
            columns = [_named(feature, map(int, values[feature.name])) for feature in features]
            lengths = {feature.name: len(column) for feature, column in zip(features, columns, strict=True)}
            if len(set(lengths.values())) > 1:
                raise ImpressionError(f"features must be of equal length, got {lengths}")
            keys = [feature.key for feature in features]
            content[part] = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ImpressionError(_indented(error)) from error

    def features(self) -> dict[str, list[int]]:
        """The raw features of ``models/impression.py``: name -> unpadded integers, in request order."""
        return {
            feature.name: _column(getattr(self, part), feature)
            for part, group in _GROUPS.items()
            for feature in names.features_of(group)
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


def _column(parts: Iterable[Candidate], feature: names.Feature) -> list[int]:
    values = (getattr(part, feature.key) for part in parts)
    return [feature.codes.get(value, value) for value in values]


def _named(feature: names.Feature, values: Iterable[int]) -> list[int | str]:
    words = {code: name for name, code in feature.codes.items()}
    return [words.get(value, value) for value in values]


def described(error: ValidationError) -> list[str]:
    """What is wrong with an impression: a line for each field."""
    lines = problems(error, Impression, whole="impression")
    # Parts that are wrong do not count as there, which says nothing of them.
    return [line for line in lines if not (line.startswith("candidates: ") and "candidates." in "".join(lines))]


def _indented(error: ValidationError) -> str:
    return "\n".join(f"  {line}" for line in described(error))

"""What a client sends and gets back: one raw impression, and its ranked candidates.

The JSON form, read by ``python -m pipeline predict --impression FILE.json``::

    {"history": [{"item_id": 12, "category_id": 3, "behavior": "pv", "age_seconds": 3600}],
     "candidates": [{"item_id": 7, "category_id": 3}, {"item_id": 9, "category_id": 4}]}

Importing this module loads neither TensorFlow nor gRPC.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from models.errors import CtrError
from models.impression import (
    BEHAVIORS,
    CANDIDATE_CATEGORY_ID,
    CANDIDATE_FEATURES,
    CANDIDATE_ITEM_ID,
    HISTORY_AGE,
    HISTORY_BEHAVIOR,
    HISTORY_CATEGORY_ID,
    HISTORY_FEATURES,
    HISTORY_ITEM_ID,
    REQUEST_FEATURES,
    VALUE_RANGES,
    BehaviorName,
)
from models.validation import problems

MAX_HISTORY = 1_000
"""Events of a request's history; as many as ingest may be told to keep."""
MAX_CANDIDATES = 10_000
"""Candidates of one request."""

_BEHAVIOR_NAMES = {code: name for name, code in BEHAVIORS.items()}


def _within(feature: str) -> Any:
    allowed = VALUE_RANGES[feature]
    return Field(strict=True, ge=allowed.minimum, le=allowed.maximum)


class ImpressionError(CtrError, ValueError):
    """An impression that cannot be sent; the message names each field and what it must be."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Candidate(_Frozen):
    """An item that could be shown."""

    item_id: Annotated[int, _within(CANDIDATE_ITEM_ID)]
    category_id: Annotated[int, _within(CANDIDATE_CATEGORY_ID)]


class Event(Candidate):
    """Something the user did before the impression."""

    behavior: BehaviorName
    age_seconds: Annotated[int, _within(HISTORY_AGE)]
    """Seconds from the event to the impression, at least 1."""


class Impression(_Frozen):
    """One user context and the candidates to rank in it.

    Example:
      >>> impression = Impression(
      ...     history=[Event(item_id=12, category_id=3, behavior="pv", age_seconds=3600)],
      ...     candidates=[Candidate(item_id=7, category_id=3), Candidate(item_id=9, category_id=4)],
      ... )
      >>> impression.features()["candidate_item_id"]
      [7, 9]
    """

    history: Annotated[tuple[Event, ...], Field(max_length=MAX_HISTORY)]
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
        missing = [name for name in REQUEST_FEATURES if name not in values]
        if missing:
            raise ImpressionError(f"missing features: {', '.join(missing)}")
        columns = {name: [int(value) for value in values[name]] for name in REQUEST_FEATURES}
        for group in (HISTORY_FEATURES, CANDIDATE_FEATURES):
            lengths = {name: len(columns[name]) for name in group}
            if len(set(lengths.values())) > 1:
                raise ImpressionError(f"features must be of equal length, got {lengths}")
        content = {
            "history": [
                {
                    "item_id": item,
                    "category_id": category,
                    "behavior": _BEHAVIOR_NAMES.get(behavior, behavior),
                    "age_seconds": age,
                }
                for item, category, behavior, age in zip(*(columns[name] for name in HISTORY_FEATURES), strict=True)
            ],
            "candidates": [
                {"item_id": item, "category_id": category}
                for item, category in zip(*(columns[name] for name in CANDIDATE_FEATURES), strict=True)
            ],
        }
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ImpressionError(_described(error)) from error

    def features(self) -> dict[str, list[int]]:
        """The raw features of ``models/impression.py``: name -> unpadded integers, in request order."""
        return {
            HISTORY_ITEM_ID: [event.item_id for event in self.history],
            HISTORY_CATEGORY_ID: [event.category_id for event in self.history],
            HISTORY_BEHAVIOR: [BEHAVIORS[event.behavior] for event in self.history],
            HISTORY_AGE: [event.age_seconds for event in self.history],
            CANDIDATE_ITEM_ID: [candidate.item_id for candidate in self.candidates],
            CANDIDATE_CATEGORY_ID: [candidate.category_id for candidate in self.candidates],
        }


class RankedCandidate(Candidate):
    """A candidate with the model's opinion of it."""

    position: int
    """Its index among the request's candidates."""
    probability: float
    logit: float


class Ranking(_Frozen):
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
        raise ImpressionError(f"{path}: not an impression\n{_described(error)}") from error


def _described(error: ValidationError) -> str:
    return "\n".join(f"  {line}" for line in problems(error, Impression, whole="impression"))

"""The declarations of features: what a log has beside the five fields of an event, and what models get of it.

A declaration stands in a log's description; :func:`rows_of` makes the rows of ``models/impression.py`` that every part
of the pipeline works by.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ctr.components.files import absolute
from ctr.models.impression import NO_BOUND, Encoding, Feature, Group
from ctr.models.section import Section

Column = Annotated[int, Field(ge=1, le=10_000)] | Annotated[str, Field(min_length=1)]
"""A name, or a place counted from 1."""
Place = Literal["history", "candidate"]

MAX_VALUES: Final = 32
_MOST_CODES: Final = 10_000_000
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_FIELDS: Final = (
    *("user", "item", "category", "behavior", "time", "timestamp", "age", "label", "weight", "negative_set"),
    *("user_id", "item_id", "category_id", "age_seconds", "target_behavior", "history", "candidate", "candidates"),
    *("position", "probability", "logit", "examples"),
)
"""Of events, requests and answers: no feature is called so."""
_COMPUTED: Final = {
    # The default lies below all of them, and has a code of its own.
    "hour_of_day": (-1.0, tuple(map(float, range(24)))),
    "day_of_week": (0.0, tuple(map(float, range(1, 8)))),
}
_QUANTILES: Final = 16


class VocabularyEncoding(Section):
    """The most frequent values of the train split have a code of their own, all others share one."""

    max: Annotated[int, Field(ge=1, le=_MOST_CODES)] = 10_000
    """Most values with a code of their own; the models have a row of an embedding for each."""
    min_count: Annotated[int, Field(ge=1)] = 1
    """Values that stand in the train split less often are unknown."""


class Encode(Section):
    """How values become codes, of which models learn a vector each. Give one of them."""

    vocabulary: VocabularyEncoding | None = None
    """Of categories."""
    hash: Annotated[int, Field(ge=1, le=_MOST_CODES)] | None = None
    """Of categories: so many codes; which of them a value has is by its hash, and some values share one."""
    buckets: Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=1)] | None = None
    """Of numbers: rising boundaries; a value on one belongs to the bucket above it."""
    quantiles: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Of numbers: so many buckets, with about as many values of the train split in each."""
    log: Literal[True] | None = None
    """Of numbers: floor(log2(1 + x)); all below 1 are alike, and all from 2^31 - 1 on."""

    @model_validator(mode="after")
    def _one(self) -> Encode:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)} (got {', '.join(given) or 'none'})")
        bounds = self.buckets or ()
        if any(later <= earlier for earlier, later in itertools.pairwise(bounds)):
            raise ValueError(f"buckets must rise (got {', '.join(f'{bound:g}' for bound in bounds)})")
        return self

    @property
    def kind(self) -> str:
        """The one that is given."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    def encoding(self) -> Encoding:
        """As the table of features has it."""
        if self.vocabulary is not None:
            return Encoding("vocabulary", self.vocabulary.max, self.vocabulary.min_count)
        if self.hash is not None:
            return Encoding("hash", self.hash)
        if self.buckets is not None:
            return Encoding("buckets", boundaries=self.buckets)
        return Encoding("log") if self.log else Encoding("quantiles", self.quantiles or 0)


class TableConfig(Section):
    """A table beside the log: what holds of an item or a user, whoever's events the log has of it."""

    path: Annotated[str, Field(min_length=1), AfterValidator(absolute)]
    """A CSV file with a header, JSON lines or Parquet, by its suffix; .gz of the first two."""
    of: Literal["item", "user"]
    key: Annotated[str, Field(min_length=1)]
    """Column of the ids, written as the log's."""
    time: Annotated[str, Field(min_length=1)] | None = None
    """Column of the time from which on a row holds, written as the log's; null: each row holds always."""


class FeatureConfig(Section):
    """A feature of one's own: whose it is, where it stands, and what models get of it."""

    of: Literal["item", "event", "user", "request"]
    """``item`` is a property of the thing, ``event`` of what was done, which only the history has; ``user`` and
    ``request`` have one value an impression."""
    column: Column | None = None
    """Of the log, or of its ``table``, where it is not ``computed``."""
    table: str | None = None
    """One of ``tables``, which has the column; an item's or a user's feature. Null: the log has it."""
    computed: Literal["hour_of_day", "day_of_week"] | None = None
    """Of the impression's time, in the log's zone: 0 to 23, or 1 to 7 from Monday on; a feature of the request."""
    type: Literal["number", "category", "categories"] | None = None
    """``category`` is a string or a whole number, ``categories`` are several in one column. Null: number where it is
    computed, else category."""
    separator: Annotated[str, Field(min_length=1, max_length=4)] = "|"
    """Between the values of ``categories``."""
    max_values: Annotated[int, Field(ge=1, le=MAX_VALUES)] = 4
    """Most values of ``categories``; those behind them are left out."""
    encode: Encode | None = None
    """Null: 16 quantiles of numbers, a vocabulary of 10,000 of categories."""
    width: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Of the vectors; null is that of behaviours and ages."""
    default: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Stands for a number that is missing; null is 0. A category that is missing is none."""
    used: Annotated[tuple[Place, ...], Field(min_length=1)] | None = None
    """Of an item's: in the events of the history, in candidates; null is both."""

    @model_validator(mode="after")
    def _has_a_source(self) -> FeatureConfig:
        if (self.column is None) == (self.computed is None):
            raise ValueError("give column, or computed (hour_of_day or day_of_week), and not both")
        if self.table is not None and not isinstance(self.column, str):
            raise ValueError(f"column: give the name of a column of table {self.table}")
        if self.computed is not None:
            if self.of != "request":
                raise ValueError(
                    f"computed: {self.computed} is of the request's time; set of to request (got {self.of})"
                )
            if given := [name for name in ("type", "encode", "default") if getattr(self, name) is not None]:
                raise ValueError(f"{given[0]}: computed says it; leave it out")
        return self

    @model_validator(mode="after")
    def _of_its_type(self) -> FeatureConfig:
        of_kind = ("buckets", "quantiles", "log") if self.kind == "number" else ("vocabulary", "hash")
        if self.encode is not None and self.encode.kind not in of_kind:
            raise ValueError(f"encode: a {self.kind} has {' or '.join(of_kind)} (got {self.encode.kind})")
        if self.default is not None and self.kind != "number":
            raise ValueError("default: is of numbers; a category that is missing is none, which has a code of its own")
        for name in ("separator", "max_values") if self.kind != "categories" else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is of type categories alone; leave it out, or set type to categories")
        return self

    @model_validator(mode="after")
    def _of_its_place(self) -> FeatureConfig:
        if self.used is not None and self.of != "item":
            where = "the history's alone" if self.of == "event" else "the impression's own, in neither"
            raise ValueError(f"used: is of an item's features; one of the {self.of} is {where}; leave it out")
        if len(set(self.used or ())) != len(self.used or ()):
            raise ValueError("used: name each place once")
        return self

    @property
    def kind(self) -> Literal["number", "category", "categories"]:
        """:attr:`type`, with what null means."""
        return self.type or ("number" if self.computed else "category")

    @property
    def in_log(self) -> bool:
        """Whether the log has its values, in a column."""
        return self.column is not None and self.table is None

    @property
    def groups(self) -> tuple[Group, ...]:
        """Where it is used, as the table of features names it."""
        if self.of == "item":
            places: tuple[Place, ...] = ("history", "candidate")
            return tuple(place for place in places if place in (self.used or places))
        return ("history",) if self.of == "event" else ("context_input",)

    def sources(self, name: str) -> tuple[str, ...]:
        """The fields of an event or impression that hold its values: ``<name>``, or ``<name>_1`` and on."""
        if self.kind != "categories":
            return (name,)
        return tuple(f"{name}_{place}" for place in range(1, 1 + self.max_values))

    @property
    def missing(self) -> float:
        """What stands for a value that is not there: a number, or 0, no category."""
        return _COMPUTED[self.computed][0] if self.computed else self.default or 0.0

    def encoding(self) -> Encoding:
        """:attr:`encode`, with what null means."""
        if self.computed is not None:
            return Encoding("buckets", boundaries=_COMPUTED[self.computed][1])
        usual = Encode(quantiles=_QUANTILES) if self.kind == "number" else Encode(vocabulary=VocabularyEncoding())
        return (self.encode or usual).encoding()


def _named(features: dict[str, FeatureConfig]) -> dict[str, FeatureConfig]:
    for name in features:
        if not _NAME.fullmatch(name) or name.startswith(("history_", "candidate_")) or re.search(r"_\d+$", name):
            raise ValueError(
                f"{name!r} is no name of a feature: give small letters, digits and underscores, a letter first, at "
                "most 41; not history_ or candidate_ in front, nor _ and a number behind"
            )
        if name in _FIELDS:
            raise ValueError(
                f"{name} is the name of something else in an impression; choose another one, e.g. my_{name}"
            )
    return features


def _without_null(features: Any) -> Any:
    return (
        {name: each for name, each in features.items() if each is not None} if isinstance(features, dict) else features
    )


Features = Annotated[dict[str, FeatureConfig], BeforeValidator(_without_null), AfterValidator(_named)]
"""Name -> declaration, in their order; one that is null is none, so that a single one can be taken out."""


def rows_of(features: Mapping[str, FeatureConfig]) -> Iterator[Feature]:
    """The rows of the table that these declare: one for each place it is used in, and for each of several values."""
    for name, declared in features.items():
        number = declared.kind == "number"
        of_type: dict[str, Any] = {"dtype": "float"} if number else {"smallest": -NO_BOUND}
        for group in declared.groups:
            for source in declared.sources(name):
                yield Feature(
                    source if group == "context_input" else f"{group}_{source}",
                    group,
                    source,
                    width=declared.width,
                    declared=name,
                    encoding=declared.encoding(),
                    default=declared.missing,
                    separator=declared.separator if declared.kind == "categories" else "",
                    **of_type,
                )

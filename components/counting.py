"""Counting features: which events are counted, and what the counts are called.

A count is of the events of a candidate's item, or of its category, in a stretch of time that ends right before the
impression. ``components/impression_gen/event_counts.py`` counts, ``components/trainer/served_counts.py`` serves.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

from pydantic import Field, field_validator, model_validator

from ctr.models.impression import LOOKED_UP, BehaviorName, Encoding, Feature, features_of
from ctr.models.section import Section

CountedField = Literal["item", "category"]
COUNTED_FIELDS: Final[tuple[CountedField, ...]] = get_args(CountedField)

ALL: Final = "all"
_LONGEST: Final = 100 * 365 * 86_400
Window = Annotated[int, Field(ge=1, le=_LONGEST)] | Literal["all"]
"""Seconds before the impression, or since the start of the log."""

_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


class Count(NamedTuple):
    """One count of a candidate."""

    field: CountedField
    window: Window

    @property
    def name(self) -> str:
        """``item_events_1h``: the window in its largest whole unit of days, hours, minutes and seconds."""
        if self.window == ALL:
            return f"{self.field}_events_{ALL}"
        unit = next(unit for unit, seconds in _UNITS.items() if self.window % seconds == 0)
        return f"{self.field}_events_{self.window // _UNITS[unit]}{unit}"


def looked_up() -> dict[CountedField, list[Feature]]:
    """The rows of the table of features that are counts, by field; of fields that have some."""
    rows = [row for row in features_of("candidate") if row.served == LOOKED_UP]
    by_field = {field: [row for row in rows if row.short.startswith(f"{field}_")] for field in COUNTED_FIELDS}
    return {field: of_field for field, of_field in by_field.items() if of_field}


class CountsConfig(Section):
    """Events of a candidate's item, and of its category, strictly before the impression, as features of candidates."""

    item: tuple[Window, ...] = ()
    """A feature each: so many seconds before the impression, or ``all``, since the start of the log; such as
    ``[3600, 86400, all]``."""
    category: tuple[Window, ...] = ()
    """Likewise of the candidate's category."""
    behaviors: tuple[BehaviorName, ...] | None = None
    """Kinds of event that are counted; null counts all."""

    @field_validator("item", "category", mode="before")
    @classmethod
    def _windows(cls, value: Any) -> Any:
        windows = list(value) if isinstance(value, list | tuple) else value
        wrong = [window for window in windows if not _is_window(window)] if isinstance(windows, list) else []
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no window; write seconds, 1 to {_LONGEST}, or {ALL}")
        if isinstance(windows, list) and len(set(windows)) != len(windows):
            raise ValueError("name each window once")
        return value

    @field_validator("behaviors")
    @classmethod
    def _some(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) != len(value)):
            raise ValueError("name at least one behaviour, each once")
        return value

    @model_validator(mode="after")
    def _of_something(self) -> CountsConfig:
        if self.behaviors is not None and not self.counts:
            raise ValueError("behaviors: nothing is counted; give windows of item or of category, too")
        return self

    @property
    def counts(self) -> tuple[Count, ...]:
        """All of them, in the order of the features."""
        return tuple(Count(field, window) for field in COUNTED_FIELDS for window in self.windows(field))

    @property
    def rows(self) -> list[Feature]:
        """What they add to the table of features."""
        return [
            Feature(
                f"candidate_{count.name}",
                "candidate",
                count.name,
                smallest=0,
                declared=count.name,
                encoding=Encoding("log"),
                served=LOOKED_UP,
            )
            for count in self.counts
        ]

    def windows(self, field: CountedField) -> tuple[Window, ...]:
        """The windows of a field."""
        windows: tuple[Window, ...] = getattr(self, field)
        return windows


def _is_window(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value == ALL or (whole and 1 <= value <= _LONGEST)

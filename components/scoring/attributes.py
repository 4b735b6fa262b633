"""What impressions are sliced by: the attributes, their values, and how a slice is called.

Read with the configuration, so nothing is computed here; :mod:`ctr.components.scoring.slices` does.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ctr.models.impression import BEHAVIORS, FEATURES

HISTORY_BUCKETS: Final = {"0": 0, "1-4": 1, "5-9": 5, "10-19": 10, "20-49": 20, "50+": 50}
"""Value of ``history_length`` -> the first length in it."""

ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "history_length": tuple(HISTORY_BUCKETS),
    "behavior": tuple(BEHAVIORS),
    "item": ("new", "seen"),
    "category": ("new", "seen"),
    "catalogue": ("known", "cold"),
    "user": ("known", "cold"),
    "popularity": tuple(map(str, range(11))),
    "hour": tuple(f"{hour:02}" for hour in range(24)),
}
"""Attribute -> its values, both in the order of reports. An impression's *target* is its positive, or its one candidate
where ``ingest.flip_labels`` left it none.

``history_length``: events of the stored history. ``behavior``: of the target's event. ``item`` and ``category``:
whether the target's stands in the stored history. ``catalogue``: whether the target's item was in the train split.
``user``: whether some event of the stored history lies in the train part. ``popularity``: 1 (rare) to 10 (popular), the
tenth of train's events that the target's item belongs to; 0 if it is cold. ``hour``: of the day in the log's zone.
"""


class Slice(NamedTuple):
    """The impressions that share a value of an attribute."""

    attribute: str
    value: str

    def __str__(self) -> str:
        return f"{self.attribute}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> Slice:
        """Of ``ATTRIBUTE:VALUE``."""
        attribute, _, value = text.partition(":")
        return cls(attribute, value)


def sliceable_features() -> tuple[str, ...]:
    """Features that an impression has one value of: of itself, or of its target."""
    groups = ("context", "candidate")
    return tuple(
        feature.name
        for feature in FEATURES.values()
        # Of what has an encoding the codes alone are kept.
        if feature.group in groups and feature.dtype == "int64" and not feature.encoding
    )

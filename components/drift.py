"""How far the data of a run are from other data, as data: readable without TensorFlow or TFX."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from ctr.models.section import Record

DRIFT_FILE: Final = "drift.json"
"""In a ``DataApproval`` artifact, JSON of :class:`DriftReport`."""

DriftState: TypeAlias = Literal["within", "reported", "stopped", "not_compared"]
"""``not_compared``: too little data, see ``words``; it decides nothing."""


class Comparison(Record):
    """A distribution of one split beside another one of the same."""

    kind: Literal["drift", "skew"]
    """Against the same split of the data that were approved last, or against the train split of the same data."""
    feature: str
    """``hour``, ``behavior``, ``history_age`` or ``history_length``: the setting of that name has its bounds; or a
    declared feature, whose are those of ``declared``."""
    split: str
    measure: str
    """In words."""
    value: float | None
    """From 0, alike, to 1; None where it is not compared."""
    bound: float | None
    """The one that ``setting`` names; None where there is none."""
    setting: str
    """That of the bound which was reached, else of the next one above; else of both."""
    state: DriftState
    words: str
    """All of this in a sentence."""


class DriftReport(Record):
    """All comparisons of a run."""

    compared_with: str | None
    """Address of the approval of the data that were approved last; None where there were none."""
    comparisons: tuple[Comparison, ...]

    def of_state(self, state: DriftState) -> tuple[Comparison, ...]:
        """Those of one state."""
        return tuple(each for each in self.comparisons if each.state == state)

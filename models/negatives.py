"""How many negatives an impression is stored with, by kind."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, create_model

from ctr.models.impression import CONTEMPORANEOUS, MAX_NEGATIVES, NEGATIVE_SETS, NegativeSet
from ctr.models.section import Section

StoredKind = Literal["all", NegativeSet]
ALL: Final = "all"

_COUNTS: Final[dict[str, Any]] = {
    kind: (Annotated[int, Field(ge=0, le=MAX_NEGATIVES)], int(kind == CONTEMPORANEOUS)) for kind in NEGATIVE_SETS
}


class StoredNegatives(create_model("StoredNegatives", __base__=Section, **_COUNTS)):  # type: ignore[misc]
    """How many negatives of each kind of ``NEGATIVE_SETS`` a stored training impression has, in that order behind the
    positive. Evaluation sets never depend on it."""

    def __getitem__(self, kind: NegativeSet) -> int:
        """Of one kind."""
        count: int = getattr(self, kind)
        return count

    @property
    def total(self) -> int:
        """Of all kinds, so that N = 1 + total."""
        return sum(self[kind] for kind in NEGATIVE_SETS)

    def columns(self, kind: StoredKind) -> slice:
        """Where the negatives of a kind stand among the candidates."""
        if kind == ALL:
            return slice(1, 1 + self.total)
        first = 1 + sum(self[before] for before in NEGATIVE_SETS[: NEGATIVE_SETS.index(kind)])
        return slice(first, first + self[kind])

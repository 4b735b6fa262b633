"""Which scored impressions a bound is about, and whether there are any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ctr.components.scoring.attributes import Slice
from ctr.components.scoring.evaluation import WHOLE
from ctr.components.scoring.metrics import OVERALL
from ctr.components.scoring.scored import Scored
from ctr.components.settings import Bounds, SliceBounds
from ctr.models.arrays import BoolArray
from ctr.models.impression import NEGATIVE_SETS


def rows_of(scored: Scored, negative_set: str, slice_: str = WHOLE) -> BoolArray:
    """[n] which impressions are of a negative set, or of all together, and in a slice."""
    rows: BoolArray = np.ones(scored.users.size, np.bool_)
    if negative_set != OVERALL:
        rows = scored.negative_set == NEGATIVE_SETS.index(negative_set)
    if slice_ != WHOLE:
        attribute, value = Slice.parse(slice_)
        rows = rows & (scored.attributes[attribute] == value)
    return rows


def empty_bounds(scored: Scored, keys: Iterable[str], judged_set: str) -> list[str]:
    """The bounds that cannot be checked because no impression is in their slice, in words: to be asked before training.

    Args:
      scored: users, negative sets and attributes; scores are not looked at.
      keys: of ``evaluation.bounds``.
      judged_set: what bounds are for that name no negative set.
    """
    return list(_empty(scored, keys, judged_set))


def _empty(scored: Scored, keys: Iterable[str], judged_set: str) -> Iterator[str]:
    for key in keys:
        each = SliceBounds.parse(key, Bounds(), judged_set)
        in_set = rows_of(scored, each.negative_set)
        if not in_set.any():
            counts = np.bincount(scored.negative_set, minlength=len(NEGATIVE_SETS))
            there = ", ".join(f"{name} ({count:,})" for name, count in zip(NEGATIVE_SETS, counts, strict=True) if count)
            yield (
                f"evaluation.bounds.{key}: the eval split has no impressions of negative set {each.negative_set}; "
                f"there are {there or 'none at all'}"
            )
        elif not rows_of(scored, each.negative_set, each.slice).any():
            attribute = Slice.parse(each.slice).attribute
            values, counts = np.unique(scored.attributes[attribute][in_set], return_counts=True)
            there = ", ".join(f"{Slice(attribute, v)} ({n:,})" for v, n in zip(values, counts, strict=True))
            yield (
                f"evaluation.bounds.{key}: none of the {int(in_set.sum()):,} impressions of negative set "
                f"{each.negative_set} is in slice {each.slice}; there are {there}"
            )

"""Which scored impressions are of a slice, and whether there are any that a bound is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from ctr.components.scoring.attributes import ATTRIBUTES, Slice
from ctr.components.scoring.evaluation import WHOLE
from ctr.components.scoring.metrics import OVERALL
from ctr.components.scoring.scored import Scored
from ctr.components.settings import Bounds, SliceBounds
from ctr.models.arrays import Array, BoolArray
from ctr.models.errors import DataError
from ctr.models.impression import EVALUATION_SETS

MOST_VALUES: Final = 200
"""Of a feature to slice by."""


def rows_of(scored: Scored, negative_set: str, slice_: str = WHOLE) -> BoolArray:
    """[n] which impressions are of a negative set, or of all together, and in a slice."""
    rows: BoolArray = np.ones(scored.users.size, np.bool_)
    if negative_set != OVERALL:
        rows = scored.negative_set == EVALUATION_SETS.index(negative_set)
    if slice_ != WHOLE:
        attribute, value = Slice.parse(slice_)
        rows = rows & (scored.attributes[attribute] == value)
    return rows


def values_of(attribute: str, values: Array) -> tuple[str, ...]:
    """What an attribute may be, in the order of reports; of a feature, what it is in [n] ``values``.

    Raises:
      DataError: if a feature has too many values to slice by.
    """
    if attribute in ATTRIBUTES:
        return ATTRIBUTES[attribute]
    found = np.unique(values)
    if found.size > MOST_VALUES:
        raise DataError(
            f"evaluation.slices: {attribute} has {found.size} values in the eval split; at most {MOST_VALUES} can be "
            "told apart. Leave it out, or slice by a feature with fewer"
        )
    return tuple(found[np.lexsort((found, np.char.str_len(found)))].tolist())


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
            sizes = np.bincount(scored.negative_set, minlength=len(EVALUATION_SETS)).tolist()
            there = ", ".join(f"{name} ({n:,})" for name, n in zip(EVALUATION_SETS, sizes, strict=True) if n)
            yield (
                f"evaluation.bounds.{key}: the eval split has no impressions of negative set {each.negative_set}; "
                f"there are {there or 'none at all'}"
            )
        elif not rows_of(scored, each.negative_set, each.slice).any():
            attribute = Slice.parse(each.slice).attribute
            found = scored.attributes[attribute][in_set]
            counts = {value: int((found == value).sum()) for value in values_of(attribute, found)}
            there = ", ".join(f"{Slice(attribute, value)} ({n:,})" for value, n in counts.items() if n)
            yield (
                f"evaluation.bounds.{key}: none of the {int(in_set.sum()):,} impressions of negative set "
                f"{each.negative_set} is in slice {each.slice}; there are {there}"
            )

"""Values and runs in sorted arrays; :mod:`ctr.models.samplers.lookup` finds values in a TensorFlow graph."""

from __future__ import annotations

import numpy as np

from ctr.models.arrays import Array, BoolArray, Int64Array


def find(rising: Array, values: Array) -> tuple[Int64Array, BoolArray]:
    """Where each value stands.

    Args:
      rising: [n], each value once or more often.
      values: of the same type, any shape.

    Returns:
      Places in ``rising`` and whether the value is there, both of the shape of ``values``; the place of one that is not
      there has no meaning.
    """
    if not rising.size:
        return np.zeros(values.shape, np.int64), np.zeros(values.shape, np.bool_)
    place = np.minimum(np.searchsorted(rising, values), rising.size - 1)
    return place, rising[place] == values


def values_of(rising: Array, values: Array, wanted: Array) -> Array:
    """The value [n] that stands beside each key wanted in ``rising`` [n]; 0 where the key is not there."""
    place, known = find(rising, wanted)
    found = np.zeros(wanted.shape, values.dtype)
    found[known] = values[place[known]]
    return found


def starts_run(*columns: Array) -> BoolArray:
    """Which rows of columns [n] begin a run: the first, and those that differ from the row before in some column."""
    starts = np.zeros(len(columns[0]), np.bool_)
    starts[:1] = True
    for column in columns:
        starts[1:] |= column[1:] != column[:-1]
    return starts

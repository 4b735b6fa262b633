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


def last_before(keys: Array, times: Int64Array, wanted: Array, before: Int64Array) -> Int64Array:
    """The last row of each key strictly before a time.

    Args:
      keys: [n] not falling.
      times: [n] not falling within a key.
      wanted: [m] keys.
      before: [m] a time for each.

    Returns:
      [m] index of the row, -1 where there is none.
    """
    first = np.searchsorted(keys, wanted, side="left")
    low, high = first, np.searchsorted(keys, wanted, side="right")
    # All binary searches at once: numpy has none for a part of an array each.
    while (is_open := low < high).any():
        middle = (low + high) // 2
        earlier = is_open.copy()
        earlier[is_open] = times[middle[is_open]] < before[is_open]
        low, high = np.where(earlier, middle + 1, low), np.where(is_open & ~earlier, middle, high)
    return np.where(low > first, low - 1, -1)


def last_of(there: BoolArray, first: Int64Array) -> Int64Array:
    """For each row [n] the last one up to and with it that is there, from row ``first`` [n] on; -1 where none is."""
    last = np.maximum.accumulate(np.where(there, np.arange(len(there)), -1))
    return np.where(last >= first, last, -1)

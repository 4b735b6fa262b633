"""Counter-based random numbers: a draw is a hash of what it is for, so it never depends on who draws it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt64Array = npt.NDArray[np.uint64]


def splitmix64(values: npt.NDArray[np.uint64]) -> UInt64Array:
    """The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection that mixes all 64 bits."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def hash_columns(seed: int, *columns: npt.NDArray[np.integer] | int) -> UInt64Array:
    """One hash a row over integer columns [n] (or scalars), in the order given.

    Returns:
      [n] uint64.
    """
    state = np.atleast_1d(splitmix64(np.array([seed], dtype=np.uint64)))
    for column in columns:
        state = splitmix64(state ^ np.asarray(column).astype(np.int64).view(np.uint64))
    return state


def partition_of(users: npt.NDArray[np.int64], partitions: int) -> npt.NDArray[np.int64]:
    """The user partition [n] of each user id [n]."""
    return (hash_columns(0, users) % np.uint64(partitions)).astype(np.int64)

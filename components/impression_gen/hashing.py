"""Counter-based random numbers: a draw is a hash of what it is for, so it never depends on who draws it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ctr.models.arrays import Int64Array, UInt64Array


def splitmix64(values: UInt64Array) -> UInt64Array:
    """The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection that mixes all 64 bits."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def hash_columns(seed: int, *columns: npt.NDArray[np.integer[Any]] | int) -> UInt64Array:
    """One hash a row over integer columns [n] (or scalars), in the order given.

    Returns:
      [n] uint64; over one column, different values have different hashes.
    """
    state = np.atleast_1d(splitmix64(np.array([seed], dtype=np.uint64)))
    for column in columns:
        state = splitmix64(state ^ np.asarray(column).astype(np.int64).view(np.uint64))
    return state


def id_hash(ids: Int64Array) -> UInt64Array:
    """The hash [n] that decides where an id's events are gathered, and their order; none is that of two ids."""
    return hash_columns(0, ids)


def part_of(hashes: UInt64Array, parts: int) -> Int64Array:
    """Which of ``parts`` equal ranges of hashes each hash [n] is in: a part has greater hashes than those before."""
    return ((hashes >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)).astype(np.int64)


def split_by(part: Int64Array, rows: npt.NDArray[np.void]) -> list[tuple[int, npt.NDArray[np.void]]]:
    """The rows [n] by part [n] below 2**16, each part's in their order; parts rising, without those that have none."""
    # numpy sorts 16 bits by radix.
    order = np.argsort(part.astype(np.uint16), kind="stable")
    ordered = rows[order]
    present, starts = np.unique(part[order], return_index=True)
    ends = [*starts[1:], len(rows)][: len(starts)]
    return [(key, ordered[a:b]) for key, a, b in zip(present.tolist(), starts, ends, strict=True)]

"""Finding values in a rising array; :mod:`models.samplers.lookup` is the same in a TensorFlow graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def find(rising: npt.NDArray[Any], values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
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


def values_of(rising: npt.NDArray[Any], values: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The value [n] that stands beside each key wanted in ``rising`` [n]; 0 where the key is not there."""
    place, known = find(rising, wanted)
    found = np.zeros(wanted.shape, values.dtype)
    found[known] = values[place[known]]
    return found

"""Values of declared features out of what a log holds: text, numbers, lists.

They are numbers, float64, or categories, int64 as ``models/string_ids.py`` has them; several are a list. Null is a
missing value, and so is category 0.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr.components.features import FeatureConfig
from ctr.models.arrays import Array, Int64Array
from ctr.models.string_ids import MASK, category_of

_LARGEST: Final = float(np.finfo(np.float32).max)


def type_of(feature: FeatureConfig) -> pa.DataType:
    """What its values are read as."""
    return {"number": pa.float64(), "category": pa.int64()}.get(feature.kind, pa.list_(pa.int64()))


def read_one(feature: FeatureConfig, value: Any) -> Any:
    """A value out of text (str or bytes), JSON or Parquet.

    Raises:
      ValueError: if it is none; it says why.
    """
    if value is None or value in ("", b""):
        return None
    if feature.kind == "number":
        return _number(value)
    if feature.kind == "category":
        return _category(value)
    parts = _parts(value, feature) if isinstance(value, str | bytes) else value if isinstance(value, list) else [value]
    found = [_category(part) for part in parts if part is not None]
    return [part for part in found if part][: feature.max_values]


def read_all(feature: FeatureConfig, column: pa.Array) -> pa.Array | None:
    """The values [n] of a column, or None where one of them may be none, which :func:`read_one` tells."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), type_of(feature))
    try:
        if feature.kind == "number":
            return _numbers(column)
        if feature.kind == "category":
            return _categories(column)
        if _is_text(column.type):
            encoded = column.dictionary_encode()
            of_each = [read_one(feature, text) for text in encoded.dictionary.to_pylist()]
            return pa.array(of_each, type_of(feature)).take(encoded.indices)
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            return _lists(column, feature.max_values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    return None


def dense(feature: FeatureConfig, column: pa.Array) -> Array:
    """Read values [n] as events hold them: float32, NaN where missing, int64, 0 where missing, or [n, max_values]."""
    if feature.kind == "number":
        numbers: Array = column.to_numpy(zero_copy_only=False).astype(np.float32)
        return numbers
    if feature.kind == "category":
        categories: Array = column.fill_null(0).to_numpy(zero_copy_only=False)
        return categories
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    found = np.zeros((len(column), feature.max_values), np.int64)
    found[np.arange(feature.max_values) < lengths[:, None]] = column.flatten().to_numpy(zero_copy_only=False)
    return found


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | bytes | int | float | Decimal):
        raise ValueError("is no number")
    try:
        # Python reads 1_000, and nobody else does.
        number = float("" if b"_" in _bytes(value) else value)
    except (ValueError, OverflowError):
        raise ValueError("is no number") from None
    if not abs(number) <= _LARGEST:
        raise ValueError("is no finite number" if not math.isfinite(number) else "is beyond what float32 holds")
    return number


def _category(value: Any) -> int:
    if isinstance(value, list | dict):
        raise ValueError("is a list, and one value is expected" if isinstance(value, list) else "is no value")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise ValueError("is no finite number")
    return category_of(_bytes(value))


def _bytes(value: Any) -> bytes:
    """A value as it would stand in CSV."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    text = (
        value
        if isinstance(value, str)
        else str(value)
        if isinstance(value, dt.date | Decimal)
        else json.dumps(value, default=str)
    )
    return text.encode("utf-8", "surrogateescape")


def _parts(text: str | bytes, feature: FeatureConfig) -> Iterable[bytes]:
    return (part for part in _bytes(text).split(feature.separator.encode()) if part)


def _is_text(kind: pa.DataType) -> bool:
    return any(
        is_one(kind)
        for is_one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def _numbers(column: pa.Array) -> pa.Array | None:
    if pa.types.is_boolean(column.type):
        return None
    if _is_text(column.type):
        text = column.cast(pa.string())
        column = pc.if_else(pc.equal(pc.binary_length(text), 0), pa.scalar(None, pa.string()), text)
    numbers = column.cast(pa.float64())
    whole = pc.all(pc.less_equal(pc.abs(numbers), _LARGEST)).as_py()
    # Of no value at all there is nothing to say; NaN is not less than anything.
    return numbers if whole in (True, None) else None


def _categories(column: pa.Array) -> pa.Array | None:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = column.cast(pa.int64())
        return None if pc.any(pc.equal(values, -MASK - 1)).as_py() else values
    if not _is_text(kind):
        return None
    encoded = column.cast(pa.large_binary() if "large" in str(kind) else pa.binary()).dictionary_encode()
    of_each = [category_of(text) for text in encoded.dictionary.to_pylist()]
    return pa.array(of_each, pa.int64()).take(encoded.indices)


def _lists(column: pa.Array, most: int) -> pa.Array | None:
    values = _categories(column.flatten())
    if values is None:
        return None
    ids = values.fill_null(0).to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(column)), lengths)
    kept = ids != 0
    before = np.concatenate([[0], np.cumsum(kept)])
    first: Int64Array = before[np.cumsum(lengths) - lengths]
    kept &= before[:-1] - first[row] < most
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(column)))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(ids[kept], pa.int64()))

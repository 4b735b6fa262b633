"""Times as a clock of the log's zone shows them: ``ingest.dataset.time.zone``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from ctr.models.arrays import Array, Int64Array

_QUARTER: Final = 900
"""Seconds; no zone has had another difference to UTC than whole quarters of an hour since 1972."""


def hours_of_day(times: Array, zone: ZoneInfo) -> Int64Array:
    """[n] hours, 0 to 23, of Unix seconds [n]."""
    return _of_quarters(times, zone, lambda local: local.hour)


def days_of_week(times: Array, zone: ZoneInfo) -> Int64Array:
    """[n] days, 1 to 7 from Monday on, of Unix seconds [n]."""
    return _of_quarters(times, zone, dt.datetime.isoweekday)


def _of_quarters(times: Array, zone: ZoneInfo, value: Callable[[dt.datetime], int]) -> Int64Array:
    """[n] what is the same for a whole quarter of an hour, computed once for each."""
    quarters, place = np.unique(times // _QUARTER, return_inverse=True)
    values = [value(dt.datetime.fromtimestamp(quarter * _QUARTER, zone)) for quarter in quarters.tolist()]
    return np.array(values, np.int64)[place]


def shown(second: int, zone: ZoneInfo, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A Unix second for a person, without the zone's name."""
    return dt.datetime.fromtimestamp(second, zone).strftime(form)

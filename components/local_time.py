"""Times as a clock of the log's zone shows them: ``ingest.dataset.time.zone``."""

from __future__ import annotations

import datetime as dt
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from ctr.models.arrays import Array, Int64Array

_QUARTER: Final = 900
"""Seconds; no zone has had another difference to UTC than whole quarters of an hour since 1972."""


def clock(times: Array, zone: ZoneInfo) -> tuple[list[dt.datetime], Int64Array]:
    """Quarters of an hour by the clock, each once, and of Unix seconds [n] which [n] of them each is in."""
    quarters, place = np.unique(times // _QUARTER, return_inverse=True)
    return [dt.datetime.fromtimestamp(quarter * _QUARTER, zone) for quarter in quarters.tolist()], place


def hours_of_day(times: Array, zone: ZoneInfo) -> Int64Array:
    """[n] hours, 0 to 23, of Unix seconds [n]."""
    local, place = clock(times, zone)
    return np.array([each.hour for each in local], np.int64)[place]


def shown(second: int, zone: ZoneInfo, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A Unix second for a person, without the zone's name."""
    return dt.datetime.fromtimestamp(second, zone).strftime(form)

"""Times of any unit, format and zone are the instants that Python's own library says."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr.components.dataset import DatasetConfig
from ctr.components.impression_gen.columns import _NO_TIME, _seconds, local_to_unix

ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
EPOCH = dt.datetime(1970, 1, 1)
LOCAL = st.datetimes(dt.datetime(1972, 6, 1), dt.datetime(2099, 1, 1)).map(lambda time: time.replace(microsecond=0))
CHANGES = st.sampled_from(
    [
        dt.datetime(2024, 3, 31, 2, 30),  # Berlin's clocks leave it out
        dt.datetime(2024, 10, 27, 2, 30),  # and show it twice
        dt.datetime(2024, 11, 3, 1, 59, 59),
        dt.datetime(2024, 10, 6, 2, 15),
    ]
)


def of(**time: Any) -> DatasetConfig:
    return DatasetConfig.model_validate(
        {"header": True, "columns": {"user": "u", "item": "i", "time": "t"}, "time": time}
    )


def unix(local: dt.datetime, zone: str) -> int:
    return int(local.replace(tzinfo=ZoneInfo(zone)).timestamp())


@given(st.lists(st.one_of(LOCAL, CHANGES), min_size=1, max_size=8), st.sampled_from(ZONES))
def test_local_times_are_those_of_the_zone(times: list[dt.datetime], zone: str) -> None:
    local = np.array([int((time - EPOCH).total_seconds()) for time in times])
    expected = [unix(time, zone) for time in times]
    assert local_to_unix(local, ZoneInfo(zone)).tolist() == expected
    for form in ("iso", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M:%S"):
        texts = [time.isoformat() if form == "iso" else time.strftime(form) for time in times]
        assert _seconds(pa.array(texts).cast(pa.binary()), of(format=form, zone=zone)).tolist() == expected
    stored = pa.array(times, pa.timestamp("ms"))
    assert _seconds(stored, of(zone=zone)).tolist() == expected


@given(st.integers(0, 4 * 10**9), st.sampled_from(["s", "ms", "us", "ns"]), st.integers(0, 999), st.sampled_from(ZONES))
def test_numbers_are_of_utc_and_rounded_down(second: int, unit: str, more: int, zone: str) -> None:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    value = second * factor + more % factor
    assert _seconds(pa.array([value]), of(unit=unit, zone=zone)).tolist() == [second]
    if value:
        assert _seconds(pa.array([-value]), of(unit=unit)).tolist() == [-value // factor]


@pytest.mark.parametrize(
    ("form", "text", "utc"),
    [
        ("iso", "2024-05-01T10:00:00Z", dt.datetime(2024, 5, 1, 10)),
        ("iso", "2024-05-01 10:00:00.999+02:00", dt.datetime(2024, 5, 1, 8)),
        ("iso", "2024-05-01", dt.datetime(2024, 4, 30, 22)),
        ("%d/%b/%Y:%H:%M:%S %z", "01/May/2024:10:00:00 -0330", dt.datetime(2024, 5, 1, 13, 30)),
        ("%Y-%m-%d %H:%M:%S.%f", "2024-05-01 10:00:00.25", dt.datetime(2024, 5, 1, 8)),
    ],
)
def test_an_offset_in_the_text_goes_before_the_zone(form: str, text: str, utc: dt.datetime) -> None:
    seconds = _seconds(pa.array([text.encode(), b"never"]), of(format=form, zone="Europe/Berlin"))
    assert seconds.tolist() == [unix(utc, "UTC"), _NO_TIME]

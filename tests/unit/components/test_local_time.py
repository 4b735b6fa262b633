from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ctr.components.local_time import days_of_week, hours_of_day, shown


@pytest.mark.parametrize("name", ["UTC", "Asia/Shanghai", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_hours_and_days_are_those_of_a_clock_there(name: str) -> None:
    zone = ZoneInfo(name)
    # Over both ends of summer time, and the first day of 1970.
    times = np.concatenate([np.arange(0, 90_000, 599), 1_490_000_000 + np.arange(0, 400 * 86_400, 3_599)])
    local = [dt.datetime.fromtimestamp(second, zone) for second in times.tolist()]
    np.testing.assert_array_equal(hours_of_day(times, zone), [each.hour for each in local])
    np.testing.assert_array_equal(days_of_week(times, zone), [each.isoweekday() for each in local])
    assert hours_of_day(np.array([], np.int64), zone).tolist() == []


def test_a_time_is_shown_as_a_clock_there_has_it() -> None:
    assert shown(1_512_086_399, ZoneInfo("Europe/Berlin")) == "2017-12-01 00:59:59"
    assert shown(1_498_867_200, ZoneInfo("Europe/Berlin"), "%H:%M") == "02:00"

"""A path with a place for a span finds its span, and the rest of it is a name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from ctr.components.impression_gen.sources import NoLogError
from ctr.components.impression_gen.spans import Span, find_span, has_span

ROW = "1,2,3,pv,1511540000\n"


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROW)


def days(text: str) -> int:
    return (dt.date.fromisoformat(text) - dt.date(1970, 1, 1)).days


@pytest.mark.parametrize("data", ["/x/log.csv", "/x/{log}.csv", "/x/{span}.csv", "gs://b/{SPAN:0}.csv", "{}"])
def test_other_braces_are_part_of_a_name(data: str) -> None:
    assert not has_span(data)


def test_the_latest_span_that_has_a_log(tmp_path: Path) -> None:
    write(tmp_path / "day-2/a.csv", tmp_path / "day-10/a.csv", tmp_path / "day-x/a.csv", tmp_path / "day-11/_SUCCESS")
    data = str(tmp_path / "day-{SPAN}")
    assert find_span(data, None) == Span(10, None, str(tmp_path / "day-10"))
    assert find_span(data, 2).path == str(tmp_path / "day-2")
    with pytest.raises(NoLogError, match=r"span: .* has no log for 3; there are 11, 10, 2"):
        find_span(data, 3)


def test_dates_are_days_since_1970(tmp_path: Path) -> None:
    write(tmp_path / "2017/11-25.csv", tmp_path / "2017/12-03.csv", tmp_path / "2017/13-99.csv")
    data = str(tmp_path / "{YYYY}/{MM}-{DD}.csv")
    assert find_span(data, None) == Span(days("2017-12-03"), None, str(tmp_path / "2017/12-03.csv"))
    assert find_span(data, days("2017-11-25")).path == str(tmp_path / "2017/11-25.csv")


def test_the_latest_version_of_a_span_and_widths(tmp_path: Path) -> None:
    write(tmp_path / "03/v1/a.csv", tmp_path / "03/v12/a.csv", tmp_path / "02/v99/a.csv", tmp_path / "0044/v1/a.csv")
    assert find_span(str(tmp_path / "{SPAN:2}/v{VERSION}"), None) == Span(3, 12, str(tmp_path / "03/v12"))


def test_what_is_around_the_place_is_no_pattern(tmp_path: Path) -> None:
    write(tmp_path / "a[1].b/day-1.csv", tmp_path / "a1xb/day-2.csv")
    assert find_span(str(tmp_path / "a[1].b/day-{SPAN}.csv"), None).number == 1


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "day-7.csv")
    monkeypatch.chdir(tmp_path)
    assert find_span("day-{SPAN}.csv", None) == Span(7, None, "day-7.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{YYYY}-{MM}", r"must hold either \{SPAN\} or \{YYYY\}, \{MM\} and \{DD\}"),
        ("{SPAN}/{YYYY}{MM}{DD}", "must hold either"),
        ("v{VERSION}", "must hold either"),
        ("{SPAN}/{SPAN}", r"\{SPAN\} more than once"),
    ],
)
def test_places_that_make_no_span(data: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_span(data, None)


def test_no_span_at_all(tmp_path: Path) -> None:
    with pytest.raises(NoLogError, match="has no span with a log; nothing has such a name"):
        find_span(str(tmp_path / "day-{SPAN}"), None)

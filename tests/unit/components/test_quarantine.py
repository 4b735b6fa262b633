from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.quarantine import (
    DUPLICATE,
    HEADER,
    NOT_AN_INTEGER,
    OUTSIDE_WINDOW,
    TEXT_LIMIT,
    Example,
    escape,
    record,
    sample,
    shard_name,
)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"1,2,\xe4\xb8\xad", "1,2,中"),
        (b"a\tb\rc\\d", "a\\tb\\rc\\\\d"),
        (b"\xff\x00", "\\xff\\x00"),
        ("x\u2028y\x85".encode(), "x\\u2028y\\x85"),
        (b"7" * 500, "7" * TEXT_LIMIT),
        (b"\xe4\xb8\xad" * 500, "中" * TEXT_LIMIT),
    ],
)
def test_escape(raw: bytes, text: str) -> None:
    assert escape(raw) == text


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_escaped_text_is_one_field_of_one_line(raw: bytes) -> None:
    text = escape(raw)
    assert len(text.encode().decode().splitlines()) <= 1
    assert "\t" not in text


def test_some_rows_of_each_reason_are_read_back(tmp_path: Path) -> None:
    rows = [
        "a.csv\t" + record(number, DUPLICATE if number % 2 else OUTSIDE_WINDOW, f"of {number}", escape(text))
        for number, text in enumerate([b"1\t2", b"", b"\xff\n", b"<b>", b"x\\y", b"7"], 1)
    ]
    for shard, part in enumerate((rows[:3], rows[3:])):
        (tmp_path / shard_name(0, shard)).write_text(HEADER + "".join(part), encoding="utf-8")
    counts = {DUPLICATE: 3, OUTSIDE_WINDOW: 3, NOT_AN_INTEGER: 0}
    found = list(sample(str(tmp_path), counts, of_each=2))
    assert [(reason, row.line) for reason, row in found] == [
        (DUPLICATE, 1),
        (OUTSIDE_WINDOW, 2),
        (DUPLICATE, 3),
        (OUTSIDE_WINDOW, 4),
    ]
    assert found[0][1] == Example("a.csv", 1, "of 1", "1\\t2")
    # Not all of a long file is read for what does not come.
    assert len(list(sample(str(tmp_path), {DUPLICATE: 9}, of_each=9, lines=3))) == 2
    assert list(sample(str(tmp_path), {NOT_AN_INTEGER: 0}, of_each=2)) == []

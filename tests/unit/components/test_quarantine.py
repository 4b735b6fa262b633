from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.quarantine import TEXT_LIMIT, escape


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

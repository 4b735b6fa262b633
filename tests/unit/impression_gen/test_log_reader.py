"""Blocks own each line once, and a block parsed at once equals a block parsed line by line."""

from __future__ import annotations

import gzip
import itertools
import zipfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ctr.components.impression_gen import log_reader
from ctr.components.impression_gen.hints import kind_of
from ctr.components.impression_gen.log_reader import Block, list_tasks, parse_block, read_blocks
from ctr.components.impression_gen.sources import list_sources

WINDOW = (1000, 2000)


def read_all(paths: list[Path], block_bytes: int) -> list[list[bytes]]:
    """Lines of each source, through blocks."""
    sources = list_sources(map(str, paths))
    lines: list[list[bytes]] = [[] for _ in sources]
    blocks: list[list[Block]] = [[] for _ in sources]
    for task in reversed(list_tasks(sources, block_bytes)):
        blocks[task.source] += read_blocks(sources[task.source], task, block_bytes)
    for source, found in enumerate(blocks):
        assert len({block.number for block in found}) == len(found)
        assert sum(block.file_bytes for block in found) <= sources[source].size
        for block in sorted(found):
            lines[source] += block.lines.splitlines(keepends=True)
    return lines


@settings(deadline=None)
@given(
    text=st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=20),
    last_line_ends=st.booleans(),
    # A byte order mark and more is in one block, which has a mebibyte at least.
    block_bytes=st.integers(4, 40),
)
def test_each_line_is_in_one_block(
    tmp_path_factory: pytest.TempPathFactory, text: list[bytes], last_line_ends: bool, block_bytes: int
) -> None:
    data = b"\n".join(text) + (b"\n" if last_line_ends and text else b"")
    assume(kind_of(data) is None)
    folder = tmp_path_factory.mktemp("log")
    (folder / "a.csv").write_bytes(data)
    (folder / "b.csv.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(folder / "c.csv.zip", "w") as archive:
        archive.writestr("UserBehavior.csv", data)
    expected = [part + b"\n" for part in data.removeprefix(log_reader._BOM).split(b"\n")]
    expected[-1] = expected[-1].removesuffix(b"\n")
    expected = [line for line in expected if line]
    plain, gz, zipped = read_all(sorted(folder.iterdir()), block_bytes)
    joined = b"".join(expected)
    assert b"".join(plain) == joined
    assert b"".join(gz) == joined
    assert b"".join(zipped) == joined


@settings(deadline=None)
@given(block_bytes=st.integers(1, 60))
def test_blocks_hold_whole_lines(tmp_path_factory: pytest.TempPathFactory, block_bytes: int) -> None:
    lines = [b"x" * n + b"\n" for n in (5, 0, 30, 1, 59, 2, 2)]
    path = tmp_path_factory.mktemp("log") / "a.csv"
    path.write_bytes(b"".join(lines))
    sources = list_sources([str(path)])
    blocks = [b.lines for task in list_tasks(sources, block_bytes) for b in read_blocks(sources[0], task, 1)]
    ends = list(itertools.accumulate(map(len, lines)))
    assert set(itertools.accumulate(map(len, blocks))) <= {0, *ends}


@pytest.mark.parametrize(
    ("name", "content"),
    [("cut.csv.gz", gzip.compress(b"1,2,3,pv,4\n" * 99)[:-12]), ("text.csv.gz", b"1,2,3,pv,4\n"), ("x.csv.zip", b"PK")],
    # The compressed bytes hold the time, and parallel test processes must name the tests alike.
    ids=["cut", "text", "zip"],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_all([tmp_path / name], 1000)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_file_without_lines_is_refused(tmp_path: Path, name: str) -> None:
    data = b"7" * (3 << 20)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(ValueError, match="a line of more than 1048576 bytes"):
        read_all([tmp_path / name], 1 << 20)


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"1,2,3,pv", "wrong_field_count", "4 fields, not 5"),
        (b"1,2,3,pv,1500,", "wrong_field_count", "6 fields, not 5"),
        (b"", "wrong_field_count", "blank line"),
        (b"user_id,item_id,category_id,behavior,timestamp", "not_an_integer", "user_id"),
        (b"1,2.0,3,pv,1500", "not_an_integer", "item_id"),
        (b"1,2,+3,pv,1500", "not_an_integer", "category_id"),
        (b"0x1F,2,3,pv,1500", "not_an_integer", "user_id"),
        (b"\xef\xbb\xbf1,2,3,pv,1500", "not_an_integer", "user_id"),
        (b'"1",2,3,pv,1500', "not_an_integer", "user_id"),
        (b"1,2,3,pv,", "not_an_integer", "timestamp"),
        (b"1,2,3,pv,1500\r1,2,3,pv,1501", "wrong_field_count", "9 fields, not 5"),
        (b"0,2,3,pv,1500", "id_out_of_range", "user_id"),
        (b"1,-2,3,pv,1500", "id_out_of_range", "item_id"),
        (b"1,2,9223372036854775808,pv,1500", "id_out_of_range", "category_id"),
        (b"0,2,9223372036854775808,pv,1500", "id_out_of_range", "user_id"),
        (b"1,2," + b"9" * 5000 + b",pv,1500", "id_out_of_range", "category_id"),
        (b"1,2,3,PV,1500", "unknown_behavior", "behavior"),
        (b"1,2,3, pv,1500", "unknown_behavior", "behavior"),
        (b"1,2,3,,1500", "unknown_behavior", "behavior"),
        (b"1,2,3,click,-7", "unknown_behavior", "behavior"),
        (b"1,2,3,pv,-7", "negative_timestamp", "timestamp"),
        (b"1,2,3,pv,-" + b"9" * 40, "negative_timestamp", "timestamp"),
        (b"1,2,3,pv,999", "outside_window", "before window_start"),
        (b"1,2,3,pv,2001", "outside_window", "after window_end"),
        (b"1,2,3,pv," + b"9" * 40, "outside_window", "after window_end"),
    ],
)
def test_a_bad_row_has_one_reason(line: bytes, reason: str, detail: str) -> None:
    good = b"5,6,7,buy,1000"
    parsed = parse_block(b"\n".join([good, line, good]) + b"\n", WINDOW)
    assert parsed.lines == 3
    assert parsed.events["line"].tolist() == [0, 2]
    assert [row[:3] for row in parsed.bad_rows] == [(1, reason, detail)]


def test_values_of_good_rows() -> None:
    parsed = parse_block(
        b"1,2,3,pv,1000\r\n 9223372036854775807,007\t,1,buy,2000\r\n4,5,6,cart,1500\n7,8,9,fav,1501", WINDOW
    )
    assert not parsed.bad_rows
    assert parsed.events.tolist() == [
        (1, 2, 3, 1, 1000, 0),
        (9223372036854775807, 7, 1, 4, 2000, 1),
        (4, 5, 6, 2, 1500, 2),
        (7, 8, 9, 3, 1501, 3),
    ]


FIELD = st.one_of(
    st.sampled_from(
        [
            b"1",
            b"2",
            b"1500",
            b"999",
            b"-3",
            b"0",
            b"",
            b" 4",
            b"x",
            b"1e3",
            b"9" * 19,
            b"pv",
            b"\r",
            b"\x00",
            b"\xef\xbb\xbf1",
        ]
    ),
    st.binary(max_size=3).filter(lambda b: b"\n" not in b),
)
LINE = st.one_of(
    st.just(b"1,2,3,pv,1500"),
    st.builds(
        lambda ids, behavior, time: b",".join([*ids, behavior, time]),
        st.lists(FIELD, min_size=3, max_size=3),
        st.sampled_from([b"pv", b"buy", b"pv ", b"fav"]),
        FIELD,
    ),
    st.lists(FIELD, max_size=7).map(b",".join),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(LINE, min_size=1, max_size=12))
def test_fast_and_exact_parsers_agree(lines: list[bytes]) -> None:
    parsed = parse_block(b"\n".join(lines) + b"\n", WINDOW)
    rows, bad = log_reader._parse_exactly(lines)
    events, rejected = log_reader._judge(rows, WINDOW)
    assert parsed.lines == len(lines)
    assert parsed.events.tolist() == events.tolist()
    expected = sorted([row[:3] for row in bad] + rejected)
    assert [row[:3] for row in parsed.bad_rows] == expected
    assert len(parsed.events) + len(parsed.bad_rows) == len(lines)


def test_faults_far_apart_keep_their_lines() -> None:
    lines = [b"1,2,3,pv,1500"] * 5000
    for bad in (0, 1023, 1024, 3333, 4999):
        lines[bad] = b"bad"
    parsed = parse_block(b"\n".join(lines), WINDOW)
    assert [row[0] for row in parsed.bad_rows] == [0, 1023, 1024, 3333, 4999]
    assert len(parsed.events) == 4995
    assert parsed.events["line"][1022] == 1025

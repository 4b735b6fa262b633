"""Every format of the same rows gives the same events, parsed at once or line by line."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.dataset import PUBLIC_LOG, DatasetConfig
from ctr.components.impression_gen.columns import ParsedBlock
from ctr.components.impression_gen.log_reader import Block
from ctr.components.impression_gen.readers import CsvReader, JsonReader, PublicLogReader, reader_of
from ctr.components.impression_gen.sources import Source, find_logs, list_sources
from ctr.components.settings import IngestConfig
from ctr.models.errors import DataError
from ctr.models.impression import BEHAVIORS
from ctr.models.string_ids import id_of

START, END = IngestConfig().window
ROWS = [(1 + i % 7, 10 + i % 13, 1 + i % 3, [*BEHAVIORS][i % 4], START + 100 * i) for i in range(500)]
COLUMNS = {"user": "u", "item": "i", "category": "c", "behavior": "b", "time": "t"}
NAMED: dict[str, Any] = {"columns": COLUMNS, "behaviors": {name: name for name in BEHAVIORS}}
EVENTS = [(user, item, category, BEHAVIORS[name], time) for user, item, category, name, time in ROWS]


def described(**values: Any) -> DatasetConfig:
    return DatasetConfig.model_validate({**NAMED, **values})


def as_text(rows: Iterable[Iterable[Any]], separator: str = ",", header: str = "") -> str:
    return header + "".join(separator.join(map(str, row)) + "\n" for row in rows)


def read(data: Path, dataset: DatasetConfig, block_bytes: int = 1000) -> list[ParsedBlock]:
    """The blocks of a log, small ones, in their order."""
    reader = reader_of(dataset)
    sources = list_sources(find_logs(str(data), dataset).files, dataset)
    found = []
    for task in reader.tasks(sources, block_bytes):
        source = sources[task.source]
        found += [
            ((task.source, block.number), reader.parse(source, block, (START, END)))
            for block in reader.blocks(source, task, block_bytes)
        ]
    return [block for _, block in sorted(found, key=lambda each: each[0])]


def events(data: Path, dataset: DatasetConfig) -> list[tuple[int, ...]]:
    blocks = read(data, dataset)
    assert not any(block.bad_rows for block in blocks)
    return [tuple(row)[:5] for block in blocks for row in block.events.tolist()]


def test_each_form_of_text_gives_the_same_events(tmp_path: Path) -> None:
    header = "u,more,i,c,b,t\n"
    wide = [(row[0], "x", *row[1:]) for row in ROWS]
    plain = as_text(wide, header=header)
    (tmp_path / "a.csv").write_text(plain)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(plain.encode()))
    (tmp_path / "a.csv.zst").write_bytes(pa.compress(plain.encode(), codec="zstd", asbytes=True))
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("inner.csv", plain)
    for name in ("a.csv", "a.csv.gz", "a.csv.zst", "a.csv.zip"):
        assert events(tmp_path / name, described(header=True)) == EVENTS, name
    (tmp_path / "b.tsv").write_text(as_text(wide, "\t", header.replace(",", "\t")).replace("\n", "\r\n"))
    assert events(tmp_path / "b.tsv", described(header=True, separator="\t")) == EVENTS
    (tmp_path / "c.dat").write_text(as_text([[f'"{value}"' for value in row] for row in wide], "|"))
    places = {"user": 1, "item": 3, "category": 4, "behavior": 5, "time": 6}
    assert events(tmp_path / "c.dat", described(columns=places, separator="|", files="*.dat")) == EVENTS
    (tmp_path / "d.csv").write_text(as_text([(*row[:3], f"é{row[3]}", row[4]) for row in ROWS]), encoding="latin-1")
    accented = described(
        columns={name: place for place, name in enumerate(COLUMNS, 1)},
        behaviors={f"é{name}": name for name in BEHAVIORS},
        encoding="latin-1",
    )
    assert events(tmp_path / "d.csv", accented) == EVENTS


def test_json_lines_of_any_numbers_give_the_same_events(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    log.write_text("".join(json.dumps({"x": [1, {}], **dict(zip("uicbt", row, strict=True))}) + "\n" for row in ROWS))
    assert events(log, described(format="json")) == EVENTS
    mixed = [{**dict(zip("uicbt", row, strict=True)), "u": str(row[0]), "t": row[4] * 1000 + 7} for row in ROWS]
    log.write_text("".join(json.dumps(row) + "\n" for row in mixed))
    assert events(log, described(format="json", time={"unit": "ms"})) == EVENTS


@pytest.mark.parametrize("kind", ["s", "us", "text", "zone", "dictionary"])
def test_parquet_of_any_types_and_partitions_gives_the_same_events(tmp_path: Path, kind: str) -> None:
    by_user = sorted(ROWS)
    for user in range(1, 8):
        rows = [row for row in by_user if row[0] == user]
        table = pa.table({name: [row[at] for row in rows] for at, name in enumerate("uicbt")}).drop(["u"])
        times = table["t"].cast(pa.timestamp("s", "Asia/Tokyo" if kind == "zone" else None))
        settings: dict[str, Any] = {}
        if kind in ("us", "zone"):
            table = table.set_column(3, "t", times.cast(pa.timestamp("us", times.type.tz)))
        elif kind == "text":
            table = table.set_column(3, "t", times.cast(pa.string()))
            settings = {"time": {"format": "iso"}}
        elif kind == "dictionary":
            table = table.set_column(2, "b", table["b"].combine_chunks().dictionary_encode())
        folder = tmp_path / f"u={user}" / "part=0"
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "p.parquet", row_group_size=17)
    assert events(tmp_path, described(format="parquet", **settings)) == [
        (user, item, category, BEHAVIORS[name], time) for user, item, category, name, time in by_user
    ]


def test_strings_become_the_ids_that_anybody_can_compute(tmp_path: Path) -> None:
    rows = [(f"ü{row[0]}", f"sku-{row[1]}", *row[2:]) for row in ROWS]
    (tmp_path / "a.csv").write_text(as_text(rows, header="u,i,c,b,t\n"))
    dataset = described(header=True, ids={"user": "string", "item": "string"})
    assert events(tmp_path / "a.csv", dataset) == [
        (id_of(row[0]), id_of(row[1]), *event[2:]) for row, event in zip(rows, EVENTS, strict=True)
    ]
    (block, *_) = read(tmp_path / "a.csv", dataset, 1 << 20)
    assert set(block.names) == {"user", "item"}
    ids, strings = block.names["item"]
    assert dict(zip(ids.tolist(), strings.to_pylist(), strict=True)) == {id_of(r[1]): r[1].encode() for r in rows}
    assert id_of("B00006I5WJ") == 6523917574386832123


def test_kinds_are_named_rated_left_out_or_all_one(tmp_path: Path) -> None:
    log = tmp_path / "a.csv"
    log.write_text(f"u,i,c,b,t\n1,2,3,5,{START}\n1,2,3,3.5,{START}\n1,2,3,1,{START}\n1,2,3,x,{START}\n")
    rated = described(header=True, behaviors=None, ratings={"fav": 4, "pv": 2})
    (block,) = read(log, rated, 1 << 20)
    assert block.events["behavior"].tolist() == [BEHAVIORS["fav"], BEHAVIORS["pv"]]
    assert (block.left_out, block.rows, block.lines) == (1, 4, 5)
    assert [row[:3] for row in block.bad_rows] == [(4, "unknown_behavior", "behavior (column 'b': x)")]
    named = described(header=True, behaviors={"5": "buy", "1": None})
    (block,) = read(log, named, 1 << 20)
    assert (block.events["behavior"].tolist(), block.left_out, len(block.bad_rows)) == ([BEHAVIORS["buy"]], 1, 2)
    alone = described(header=True, behaviors=None, columns={"user": "u", "item": "i", "time": "t"})
    (block,) = read(log, alone, 1 << 20)
    assert [tuple(row)[:4] for row in block.events.tolist()] == [(1, 2, 1, BEHAVIORS["pv"])] * 4


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (f"1,2,3,pv,{START},9", "wrong_field_count", "6 fields, not 5"),
        ("", "wrong_field_count", "blank line"),
        (f"1,x,3,pv,{START}", "not_an_integer", "item (column 'i': x)"),
        (f"1,,3,pv,{START}", "missing_value", "item (column 'i': nothing)"),
        (f"0,2,3,pv,{START}", "id_out_of_range", "user (column 'u': 0)"),
        (f"9223372036854775808,2,3,pv,{START}", "id_out_of_range", "user (column 'u': 9223372036854775808)"),
        (f"1,2,3,click,{START}", "unknown_behavior", "behavior (column 'b': click)"),
        ("1,2,3,pv,-7", "negative_timestamp", "time (column 't': -7)"),
        (f"1,2,3,pv,{START - 1}", "outside_window", f"before window_start (column 't': {START - 1})"),
        (f"1,2,3,pv,{END + 1}", "outside_window", f"after window_end (column 't': {END + 1})"),
    ],
)
def test_a_bad_row_has_one_reason_with_its_column_and_its_line(
    tmp_path: Path, line: str, reason: str, detail: str
) -> None:
    good = f"1,2,3,pv,{START}"
    (tmp_path / "a.csv").write_text(f"u,i,c,b,t\n{good}\n{line}\n{good}\n")
    (block,) = read(tmp_path / "a.csv", described(header=True), 1 << 20)
    assert block.bad_rows == [(2, reason, detail, line)]
    assert block.events["line"].tolist() == [1, 3]


@pytest.mark.parametrize(("text", "lines", "rows"), [("", 0, 0), ("u,i,c,b,t", 1, 0), ("u,i,c,b,t\n\n", 2, 1)])
def test_blank_lines_and_a_header_alone_are_counted(tmp_path: Path, text: str, lines: int, rows: int) -> None:
    dataset = described(header=True)
    source = Source("a.csv", 1)
    block = CsvReader(dataset).parse(source, Block(0, text.encode(), 0, b"u,i,c,b,t"), (START, END))
    assert (block.lines, block.rows, len(block.bad_rows)) == (lines, rows, rows)
    (blank,) = CsvReader(dataset).parse(source, Block(1, b"\n", 0, b"u,i,c,b,t"), (START, END)).bad_rows
    assert blank[:3] == (0, "wrong_field_count", "blank line")


def test_bad_json_and_bad_parquet_rows_have_reasons(tmp_path: Path) -> None:
    good = {"u": 1, "i": 2, "c": 3, "b": "pv", "t": START}
    lines = [json.dumps(good), "{", "[1]", json.dumps({**good, "u": "x"}), json.dumps({**good, "i": None}), ""]
    (tmp_path / "a.json").write_text("\n".join(lines) + "\n")
    (block,) = read(tmp_path / "a.json", described(format="json"), 1 << 20)
    reasons = ["unreadable_row", "unreadable_row", "not_an_integer", "missing_value", "unreadable_row"]
    assert [(row[0], row[1]) for row in block.bad_rows] == list(enumerate(reasons, 1))
    table = pa.table({"u": ["1", "x", None], "i": [2, 2, 2], "c": [3, 3, 3], "b": ["pv"] * 3, "t": [START] * 3})
    pq.write_table(table, tmp_path / "a.parquet")
    (block,) = read(tmp_path / "a.parquet", described(format="parquet"))
    assert [row[:3] for row in block.bad_rows] == [
        (1, "not_an_integer", "user (column 'u': x)"),
        (2, "missing_value", "user (column 'u': nothing)"),
    ]
    assert json.loads(block.bad_rows[0][3]) == {"u": "x", "i": 2, "c": 3, "b": "pv", "t": START}


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, form: str) -> None:
    dataset = described(format=form, columns={**COLUMNS, "user": "usr"}, **({"header": True} if form == "csv" else {}))
    if form == "json":
        (tmp_path / "a.json").write_text(json.dumps({"u": 1}) + "\n")
        (block,) = read(tmp_path / "a.json", dataset)
        assert block.bad_rows[0][1] == "missing_value", "an object may lack a key"
        return
    (tmp_path / "a.csv").write_text(as_text(ROWS, header="u,i,c,b,t\n"))
    pq.write_table(pa.table({name: [1] for name in "uicbt"}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"ingest\.dataset\.columns\.user is 'usr'.*u, i, c, b, t"):
        read(tmp_path / f"a.{form}", dataset)


FIELD = st.one_of(
    st.sampled_from(["1", "2", str(START), "-3", "0", "", " 4", "x", "0x1F", "9" * 19, "9" * 30, "pv", '"pv"', '"1"']),
    st.text(st.sampled_from('a1 ,"\r\t'), max_size=4),
)
LINE = st.one_of(
    st.just(f"1,2,3,pv,{START}"),
    st.builds(
        lambda ids, kind, time: ",".join([*ids, kind, time]), st.lists(FIELD, min_size=3, max_size=3), FIELD, FIELD
    ),
)


@settings(deadline=None, max_examples=12)
@given(lines=st.lists(LINE, min_size=1, max_size=6), strings=st.booleans(), quote=st.sampled_from(['"', None]))
def test_csv_parsed_at_once_equals_csv_parsed_line_by_line(lines: list[str], strings: bool, quote: str | None) -> None:
    dataset = DatasetConfig.model_validate(
        {**PUBLIC_LOG.model_dump(), "quote": quote, "ids": "string" if strings else "integer"}
    )
    reader, source = CsvReader(dataset), Source("a.csv", 1)

    def parsed(rows: list[str]) -> ParsedBlock:
        return reader.parse(source, Block(0, ("\n".join(rows) + "\n").encode(), 0, b"1,2,3,4,5"), (START, END))

    together = parsed(lines)
    # A line that is no row makes all of them be parsed line by line.
    apart = parsed([*lines, ""])
    assert together.events.tolist() == apart.events.tolist()
    assert together.bad_rows == apart.bad_rows[:-1]
    if quote is None and not strings:
        public = PublicLogReader(PUBLIC_LOG).parse(source, Block(0, "\n".join(lines).encode(), 0), (START, END))
        assert together.events.tolist() == public.events.tolist()


JSON = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**66), st.floats(allow_nan=False), st.text(max_size=2),
    st.sampled_from(["pv", START]),
)  # fmt: skip


@settings(deadline=None, max_examples=12)
@given(
    rows=st.lists(st.fixed_dictionaries(dict.fromkeys("uicbt", JSON)), min_size=1, max_size=4), strings=st.booleans()
)
def test_json_parsed_at_once_equals_json_parsed_line_by_line(rows: list[dict[str, Any]], strings: bool) -> None:
    rows.append({"u": 1, "i": 2, "c": 3, "b": "pv", "t": START})
    reader = JsonReader(described(format="json", ids="string" if strings else "integer"))
    lines = "\n".join(map(json.dumps, rows))
    together, apart = (
        reader.parse(Source("a.json", 1), Block(0, data.encode(), 0), (START, END)) for data in (lines, lines + "\n{")
    )
    assert together.events.tolist() == apart.events.tolist()
    assert together.bad_rows == apart.bad_rows[:-1]

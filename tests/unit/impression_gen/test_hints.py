"""What is said about a file of another kind, and about rows that cannot be used."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from ctr.components import quarantine
from ctr.components.dataset import PUBLIC_LOG, DatasetConfig, Time
from ctr.components.impression_gen import hints, log_reader
from ctr.components.impression_gen.log_reader import Task, parse_block, read_blocks
from ctr.components.impression_gen.sources import list_sources
from ctr.components.settings import IngestConfig

START, END = IngestConfig().window
ROW = f"1,2268318,2520377,pv,{START + 5}\n".encode()


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"user_id": [1]}), buffer)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("log.csv", ROW)
    return buffer.getvalue()


OTHER_KINDS = {
    "gzip": (gzip.compress(ROW), "name it .csv.gz"),
    "a zip archive": (_zip(), "name it .csv.zip"),
    "bzip2": (bz2.compress(ROW), "bunzip2"),
    "xz": (lzma.compress(ROW), "unxz"),
    "zstd": (pa.compress(ROW, codec="zstd", asbytes=True), "name it .csv.zst"),
    "Parquet": (_parquet(), "export it as CSV"),
    "UTF-16 text": (ROW.decode().encode("utf-16"), "iconv -f UTF-16"),
    "UTF-16 text, big": (codecs.BOM_UTF16_BE + ROW.decode().encode("utf-16-be"), "iconv -f UTF-16"),
    "UTF-16 text, no mark": (ROW.decode().encode("utf-16-le"), "iconv -f UTF-16"),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("name", ["log.csv", "LOG.CSV.GZ"])
def test_a_file_of_another_kind_is_refused_before_it_is_read(kind: str, name: str, tmp_path: Path) -> None:
    content, advice = OTHER_KINDS[kind]
    if kind == "gzip" and name.endswith("GZ"):
        content = gzip.compress(content)
        said = r"LOG\.CSV\.GZ: what it holds is no CSV by its first bytes, but gzip"
    else:
        said = rf"{name}: by its first bytes it is {kind.partition(',')[0]}.*{advice}"
    (tmp_path / name).write_bytes(content)
    (source,) = list_sources([str(tmp_path / name)])
    with pytest.raises(ValueError, match=said):
        list(read_blocks(source, Task(0, 0, 0, source.size), 1 << 20))


def test_plain_rows_under_a_compressed_name_are_shown() -> None:
    with pytest.raises(
        ValueError, match=r"x\.csv\.gz: by its name it is gzip, and by its first bytes it is not \(1,226"
    ):
        hints.check_kind("x.csv.gz", ROW)
    with pytest.raises(ValueError, match=r"x\.csv\.gz: the file is empty"):
        hints.check_kind("x.csv.gz", b"")


@pytest.mark.parametrize(
    "first", [ROW, b"\xef\xbb\xbf" + ROW, b"", b"1,2", b"user_id,item_id\n", b'"1","2"', b"\0\0\0\0\0"]
)
def test_what_may_be_csv_is_taken(first: bytes) -> None:
    assert hints.kind_of(first) is None
    hints.check_kind("log.csv", first)


def advice_of(*lines: str, dataset: DatasetConfig = PUBLIC_LOG) -> str | None:
    """What is said of the commonest reason among lines."""
    parsed = parse_block("".join(f"{line}\n" for line in lines).encode(), (START, END))
    rows = max(parsed.by_reason().values(), key=len)
    examples = [quarantine.Example("log.csv", line + 1, detail, text) for line, _, detail, text in rows]
    return hints.advise(rows[0][1], examples, dataset)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([f"1\t2\t3\tpv\t{START}"], "separated by tabs"),
        ([f"1;2;3;pv;{START}"], "separated by semicolons"),
        ([f"1|2|3|pv|{START}"], "separated by bars"),
        (["user_id,item_id,category_id,behavior,timestamp"], "the first line looks like a header; remove it"),
        (
            ["user,item,category,behavior,time", f'"1",2,3,pv,{START}'],
            "header; remove it. Beside that, the fields are quoted",
        ),
        ([f'"1","2","3","pv","{START}"'], "the fields are quoted"),
        ([f"1.0,2.0,3.0,pv,{START}"], r"user_id is written as a fraction (1.0)"),
        (["1,2,3,pv,2017-11-25 00:00:00"], "timestamps are written as dates (2017-11-25 00:00:00); write Unix seconds"),
        ([f"u17,2,3,pv,{START}"], "user_id must be a whole number from 1 on"),
        ([f"pv,1,2,3,{START}"], "the kind of event stands in column 1 and belongs into column 4"),
        ([f"1,2,pv,3,{START}"], "the kind of event stands in column 3"),
        ([f"1,2,3,{START},pv"], "the kind of event stands in column 5"),
        ([f"1,2,3,PV,{START}", f"1,2,3, pv,{START}"], "are written 'PV', ' pv'; write pv, cart, fav, buy"),
        (
            [f"1,2,3,click,{START}", f"1,2,3,view,{START}"],
            "kinds of event 'click', 'view'; write each as one of pv, cart",
        ),
        ([f"1,2,3,pv,{START}000"], "timestamps are in milliseconds; divide them by 1000"),
        ([f"1,2,3,pv,{START}000000"], "timestamps are in microseconds; divide them by 1000000"),
        ([f"1,2,3,pv,{START}000000000"], "timestamps are in nanoseconds"),
        (["1,2,3,pv,1556668800"], "such rows are of 2019-05-01 08:00 to 2019-05-01 08:00 (Asia/Shanghai)"),
        (["1,2,3,pv,42"], "42 is no Unix time of these years; the order of the columns is user_id,item_id"),
        ([f"0,2,3,pv,{START}"], "user_id is 0, which stands for padding"),
    ],
)
def test_rows_say_what_is_wrong_with_them(lines: list[str], says: str) -> None:
    advice = advice_of(*lines)
    assert advice is not None
    assert says in advice


def test_times_are_shown_in_the_zone_of_the_description() -> None:
    berlin = PUBLIC_LOG.model_copy(update={"time": Time(zone="Europe/Berlin")})
    advice = advice_of("1,2,3,pv,1556668800", dataset=berlin)
    assert advice is not None
    assert "such rows are of 2019-05-01 02:00 to 2019-05-01 02:00 (Europe/Berlin)" in advice


@pytest.mark.parametrize("lines", [["1,2,3"], ["1,2,3,pv,-5"], [f"-1,2,3,pv,{START}"], [f",2,3,pv,{START}"]])
def test_nothing_is_said_where_nothing_is_seen(lines: list[str]) -> None:
    assert advice_of(*lines) is None


def test_one_log_twice() -> None:
    again = [quarantine.Example("b.csv", n, f"first at a.csv:{n}", "1,2,3,pv,4") for n in (1, 2)]
    assert hints.advise(quarantine.DUPLICATE, again) == "b.csv repeats rows of a.csv; is the same log there twice?"
    assert hints.advise(quarantine.DUPLICATE, [again[0]._replace(file="a.csv")]) is None


def test_every_reason_is_known_and_a_row_may_be_cut() -> None:
    assert set(quarantine.REASONS) == {*hints._ADVICE, quarantine.OUTSIDE_WINDOW}
    for reason in set(quarantine.REASONS) - {
        quarantine.DUPLICATE,
        quarantine.UNKNOWN_BEHAVIOR,
        quarantine.CONTRADICTORY_REQUEST,
    }:
        assert hints.advise(reason, []) is None
        assert hints.advise(reason, [quarantine.Example("a.csv", 2, "timestamp", "1,2")]) is None


def test_examples_are_the_first_of_each_reason() -> None:
    lines = [b"bad"] * 50 + [b"1,2,3,click,5"] * 50
    parsed = parse_block(b"\n".join(lines), (START, END))
    kept = log_reader.first_of_each(parsed.by_reason())
    assert [row[0] for row in kept] == [*range(20), *range(50, 70)]


@pytest.mark.parametrize("reason", [quarantine.BAD_EXPOSURE, quarantine.NOT_AN_INTEGER])
def test_what_is_no_position_is_said(reason: str) -> None:
    columns = {"user": "u", "item": "i", "time": "t", "clicked": "hit", "position": "place"}
    dataset = DatasetConfig.model_validate({"header": True, "columns": columns})
    example = quarantine.Example("a.csv", 2, "position (column 'place': 0.5)", "1,2,3,0,0.5")
    said = hints.advise(reason, [example], dataset)
    assert said == "positions count from 1 ('0.5'); leave columns.position out otherwise"

"""Files that are damaged, that hold what is no text, or that would run code: each is refused in words."""

from __future__ import annotations

import decimal
import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ctr.components import quarantine
from ctr.components.dataset import Columns, DatasetConfig, Format
from ctr.components.impression_gen import hints
from ctr.components.impression_gen.check import check
from ctr.components.impression_gen.columns import ParsedBlock
from ctr.components.impression_gen.inspection import inspect
from ctr.components.impression_gen.readers import reader_of
from ctr.components.impression_gen.sources import list_sources
from ctr.components.settings import IngestConfig
from ctr.models.errors import DataError

COLUMNS = Columns(user="u", item="i", time="t")
CSV = DatasetConfig(header=True, columns=COLUMNS, ids="string")
JSON = DatasetConfig(format="json", columns=COLUMNS, ids="string")


def parsed(path: Path, dataset: DatasetConfig) -> ParsedBlock:
    (source,) = list_sources([str(path)], dataset)
    reader = reader_of(dataset)
    (task,) = reader.tasks([source], 1 << 20)
    (block,) = reader.blocks(source, task, 1 << 20)
    return reader.parse(source, block, (0, 1 << 40))


def reasons(block: ParsedBlock) -> list[tuple[int, str]]:
    return [(line, reason) for line, reason, _, _ in block.bad_rows]


def test_ids_that_are_no_utf8_are_read_beside_a_row_that_is_bad(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"u,i,t\n\xe9,b,12\n\xe9,b,x\n\xe9,b,\xe9\n")
    block = parsed(tmp_path / "log.csv", CSV)
    assert reasons(block) == [(2, quarantine.NOT_AN_INTEGER), (3, quarantine.NOT_AN_INTEGER)]
    assert block.bad_rows[1][2] == "time (column 't': \\xe9)"
    assert [name.as_py() for name in block.names["user"][1]] == [b"\xe9"]


@pytest.mark.parametrize(
    "line",
    [b'{"u": "\\ud800", "i": "b", "t": 12}', b'{"u": "\xff", "i": "b", "t": 12}', b"3", b"[{}]", b"[" * 100_000],
)
@pytest.mark.parametrize("beside", [b'{"u": "a", "i": "b", "t": 12}', b'{"u": "a", "i": "b", "t": "x"}'])
def test_a_line_that_is_no_json_object_of_text_is_one_bad_row(tmp_path: Path, line: bytes, beside: bytes) -> None:
    """Whatever stands beside it: parsed at once or line by line."""
    (tmp_path / "log.json").write_bytes(line + b"\n" + beside + b"\n")
    assert reasons(parsed(tmp_path / "log.json", JSON))[0] == (0, quarantine.UNREADABLE_ROW)
    checked = check(str(tmp_path / "log.json"), IngestConfig(dataset=JSON))
    assert checked.quarantined[quarantine.UNREADABLE_ROW] == 1


def test_the_first_second_may_be_that_of_1970(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"u,i,t\na,b,5\n" + b"a,b,0\n" * 2)
    checked = check(str(tmp_path / "log.csv"), IngestConfig(dataset=CSV))
    assert (checked.first_second, checked.last_second) == (0, 5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", b""),
        ("log.csv", b"\n\n"),
        ("log.csv", b'a,b,c\n1,"2,3\n' + b"1,2,3\n" * 60_000),
        ("log.json", b"[" * 100_000 + b"\n"),
        ("log.csv.gz", gzip.compress(b"a,b,c\n" * 1000)[:-12]),
        ("log.csv.zst", b"\x28\xb5\x2f\xfd" + bytes(100)),
        ("log.parquet", b"PAR1" + bytes(100)),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        inspect(str(tmp_path / name))


def test_a_compressed_file_that_is_damaged_is_named_by_each_reader(tmp_path: Path) -> None:
    (tmp_path / "log.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(DataError, match="log.csv.zst: damaged"):
        parsed(tmp_path / "log.csv.zst", CSV)


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_a_type_that_would_run_code_runs_none(tmp_path: Path) -> None:
    """In a process of its own: Beam, which other tests import, forbids such types everywhere."""
    said = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(_Runs(tmp_path / "ran")),
    }
    schema = pa.schema([pa.field("user", pa.int64(), metadata=said), ("item", pa.int64()), ("time", pa.int64())])
    pq.write_table(pa.table([pa.array([1, 2])] * 3, schema=schema), tmp_path / "log.parquet")
    command = [sys.executable, "-m", "ctr", "inspect", str(tmp_path / "log.parquet")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not (tmp_path / "ran").exists()
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("form", "name", "says"), [("json", "log.json", "name it .json.gz"), ("parquet", "log.parquet", "unpack it")]
)
def test_a_file_of_another_kind_is_advised_on_in_its_formats_words(form: Format, name: str, says: str) -> None:
    dataset = DatasetConfig(format=form, columns=COLUMNS)
    with pytest.raises(DataError, match=f"{name}: by its first bytes it is gzip.*{says}"):
        hints.check_kind(name, gzip.compress(b"{}"), dataset)


def test_a_rating_that_is_no_number_is_said_to_be_one(tmp_path: Path) -> None:
    rated = DatasetConfig(header=True, columns=Columns(user="u", item="i", time="t", behavior="r"), ratings={"pv": 1})
    (tmp_path / "log.csv").write_bytes(b"u,i,t,r\n1,2,3,good\n")
    refusal = check(str(tmp_path / "log.csv"), IngestConfig(dataset=rated)).refusal
    assert refusal is not None
    assert "ratings are numbers, and 'good' are none (column 'r')" in refusal


def test_names_of_any_characters_are_quoted_in_the_guess(tmp_path: Path) -> None:
    user, item, other = "user \U0001f600\x7f", "item\nformat: csv", "other\nformat: csv\x85\u2028x: 1"
    rows = [{user: f"u{i}", item: f"i{i}", "time": 1_700_000_000 + i, other: i} for i in range(9)]
    (tmp_path / "log.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = DatasetConfig.model_validate(yaml.safe_load(inspect(str(tmp_path / "log.json")).yaml))
    assert (found.format, found.columns.user, found.columns.item) == ("json", user, item)


@pytest.mark.parametrize("kind", [float, decimal.Decimal])
def test_a_fraction_in_parquet_is_a_bad_row_and_its_neighbours_are_not(tmp_path: Path, kind: Any) -> None:
    times = [kind("12.5"), kind("13.0")]
    pq.write_table(pa.table({"u": ["a", "b"], "i": ["c", "d"], "t": times}), tmp_path / "log.parquet")
    block = parsed(tmp_path / "log.parquet", DatasetConfig(format="parquet", columns=COLUMNS, ids="string"))
    assert reasons(block) == [(0, quarantine.NOT_AN_INTEGER)]
    assert block.events["timestamp"].tolist() == [13]


def test_a_name_of_two_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"u,u,i,t\n1,2,3,4\n")
    twice = pa.Table.from_arrays([pa.array([1])] * 4, names=["u", "u", "i", "t"])
    pq.write_table(twice, tmp_path / "log.parquet")
    for name, dataset in (("log.csv", CSV), ("log.parquet", DatasetConfig(format="parquet", columns=COLUMNS))):
        with pytest.raises(DataError, match=f"{name}: .*columns.user is 'u', which 2 columns are called"):
            parsed(tmp_path / name, dataset)

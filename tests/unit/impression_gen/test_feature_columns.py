"""Declared columns are read the same out of every format, and what is no value of their type is told in words."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr.components.dataset import DatasetConfig
from ctr.components.features import FeatureConfig
from ctr.components.impression_gen import hints
from ctr.components.impression_gen.columns import ParsedBlock
from ctr.components.impression_gen.events import logged, pack_chunk, sort_partition
from ctr.components.impression_gen.feature_columns import dense, read_all, read_one, type_of
from ctr.components.impression_gen.readers import RowGroup, reader_of
from ctr.components.impression_gen.sources import Source, find_logs, list_sources
from ctr.components.impression_gen.values import event_type
from ctr.components.quarantine import Example
from ctr.components.settings import IngestConfig
from ctr.models.errors import DataError
from ctr.models.string_ids import category_of, id_of

START, END = IngestConfig().window
FEATURES: dict[str, Any] = {
    "price": {"of": "item", "column": "cost", "type": "number"},
    "brand": {"of": "item", "column": "brand"},
    "tags": {"of": "item", "column": "tags", "type": "categories", "max_values": 2},
}
NAMES = ("u", "i", "t", "cost", "brand", "tags")


def described(**values: Any) -> DatasetConfig:
    header = {} if values.get("format", "csv") != "csv" else {"header": True}
    columns = {"user": "u", "item": "i", "time": "t"}
    return DatasetConfig.model_validate({"columns": columns, "features": FEATURES, **header, **values})


def read(data: Path, dataset: DatasetConfig) -> list[ParsedBlock]:
    reader = reader_of(dataset)
    sources = list_sources(find_logs(str(data), dataset).files, dataset)
    return [
        reader.parse(sources[task.source], block, (START, END))
        for task in reader.tasks(sources, 1 << 20)
        for block in reader.blocks(sources[task.source], task, 1 << 20)
    ]


def write(path: Path, rows: list[tuple[Any, ...]]) -> DatasetConfig:
    if path.suffix == ".csv":
        cells = [
            ["" if each is None else "|".join(each) if isinstance(each, list) else each for each in r] for r in rows
        ]
        path.write_text("\n".join([",".join(NAMES), *(",".join(map(str, row)) for row in cells)]) + "\n")
        return described()
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows))
        return described(format="json")
    if path.suffix == "":
        return described(format="bigquery")
    pq.write_table(pa.table({name: [row[at] for row in rows] for at, name in enumerate(NAMES)}), path)
    return described(format="parquet")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ""])
@pytest.mark.parametrize("brand", [["B1", None, "ü b", ""], [12, 0, None, -3]])
def test_every_format_gives_the_same_values(suffix: str, brand: list[Any], tmp_path: Path) -> None:
    cost: list[float | None] = [1.5, None, -2.25, 1e6]
    tags = [["a", "b", "c"], [], ["7"], ["", "a"]]
    rows = [(1 + n, 10 + n, START + n, cost[n], brand[n], tags[n]) for n in range(4)]
    dataset = write(tmp_path / f"log{suffix}", rows)
    if suffix:
        (block,) = read(tmp_path / f"log{suffix}", dataset)
    else:
        # Rows as BigQuery's source gives them.
        table = pa.Table.from_pylist([dict(zip(NAMES, row, strict=True)) for row in rows])
        block = reader_of(dataset).parse(Source("bq://a.b.c", 0, None, "none", ()), RowGroup(0, table, 0), (START, END))
    assert not block.bad_rows
    values = block.events["values"]
    np.testing.assert_array_equal(values["price"], np.array([1.5, np.nan, -2.25, 1e6], np.float32))
    ids = {"B1": id_of("B1"), "ü b": id_of("ü b"), None: 0, "": 0}
    assert values["brand"].tolist() == [ids.get(each, each) for each in brand]
    assert values["tags"].tolist() == [[id_of("a"), id_of("b")], [0, 0], [7, 0], [id_of("a"), 0]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_is_no_value_is_told_with_its_column_and_the_rest_is_kept(suffix: str, tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [(1 + n, 10 + n, START + n, 1.5, "B1", ["a"]) for n in range(30)]
    bad: dict[int, Any] = {3: "cheap", 7: math.nan, 8: -math.inf, 20: 1e300}
    if suffix == ".parquet":
        # A column has one type there.
        bad = {at: value for at, value in bad.items() if isinstance(value, float)}
    for at, value in bad.items():
        rows[at] = (*rows[at][:3], value, *rows[at][4:])
    dataset = write(tmp_path / f"log{suffix}", rows)
    (block,) = read(tmp_path / f"log{suffix}", dataset)
    first = int(suffix == ".csv")
    whys = {"cheap": "is no number", 1e300: "is beyond what float32 holds"}
    assert [row[:2] for row in block.bad_rows] == [(at + first, "bad_value") for at in bad]
    for (_, _, detail, text), value in zip(block.bad_rows, bad.values(), strict=True):
        assert detail.startswith(f"price {whys.get(value, 'is no finite number')} (column 'cost': ")
        assert str(value).lower().removeprefix("-")[:3] in detail.lower()
        assert "B1" in text
    assert block.events["item"].tolist() == [10 + n for n in range(30) if n not in bad]
    assert block.events["values"]["price"].tolist() == [1.5] * (30 - len(bad))
    advice = hints.advise("bad_value", [Example("a", *row[::2], row[3]) for row in block.bad_rows[:1]], dataset)
    assert advice is not None
    says = "numbers of features.price are not finite" if suffix == ".parquet" else "values of features.price are others"
    assert advice.startswith(says)


def test_a_list_is_no_plain_category(tmp_path: Path) -> None:
    rows = [(1, 10, START, 1.0, brand, ["a"]) for brand in ("B1", ["B1", "B2"], {"name": "B1"})]
    dataset = write(tmp_path / "log.jsonl", rows)
    (block,) = read(tmp_path / "log.jsonl", dataset)
    assert [row[:3] for row in block.bad_rows] == [
        (1, "bad_value", 'brand is a list, and one value is expected (column \'brand\': ["B1", "B2"])'),
        (2, "bad_value", 'brand is no value (column \'brand\': {"name": "B1"})'),
    ]


def test_columns_may_lie_in_folders_and_must_be_there(tmp_path: Path) -> None:
    for brand in ("b1", "b2"):
        (tmp_path / f"brand={brand}").mkdir()
        table = pa.table({"u": [1], "i": [2], "t": [START], "cost": [3], "tags": [["a"]]})
        pq.write_table(table, tmp_path / f"brand={brand}" / "a.parquet")
    dataset = described(format="parquet")
    found = [block.events["values"]["brand"].tolist() for block in read(tmp_path, dataset)]
    assert found == [[id_of("b1")], [id_of("b2")]]
    other = described(format="parquet", features={"price": {"of": "item", "column": "brand", "type": "number"}})
    with pytest.raises(DataError, match=r"the name of its folder: price is no number \(column 'brand': b1\)"):
        read(tmp_path, other)
    missing = described(format="parquet", features={"price": {"of": "item", "column": "csot", "type": "number"}})
    with pytest.raises(DataError, match=r"ingest.dataset.features.price.column is 'csot'; .*did you mean cost"):
        read(tmp_path, missing)


NUMBER, CATEGORY = (FeatureConfig(of="event", column="x", type=kind) for kind in ("number", "category"))
SEVERAL = FeatureConfig(of="event", column="x", type="categories", max_values=2, separator=";")


@pytest.mark.parametrize(
    ("feature", "column"),
    [
        (NUMBER, pa.array([b"1", b"", b"2.5e3", None, b"-.5"], pa.binary())),
        (NUMBER, pa.array([Decimal("1.25"), None])),
        (NUMBER, pa.array([None, None])),
        (CATEGORY, pa.array([b"12", b"", b"012", b"-7", None], pa.binary())),
        (CATEGORY, pa.array([12.0, None])),
        (CATEGORY, pa.array(["a", None, "a"]).dictionary_encode()),
        (CATEGORY, pa.array(["a"], pa.large_string())),
        (SEVERAL, pa.array([b"a;b;;c", b"", None, b"12"], pa.binary())),
        (SEVERAL, pa.array([["x"], ["a", None, "b", "c"], [], None, ["12"]]).slice(1)),
        (SEVERAL, pa.array([[1, 0, 2, 3], None], pa.large_list(pa.int64()))),
    ],
)
def test_a_column_at_once_is_what_its_values_are_one_by_one(feature: FeatureConfig, column: pa.Array) -> None:
    at_once = read_all(feature, column)
    one_by_one = pa.array([read_one(feature, value) for value in column.to_pylist()], type_of(feature))
    assert at_once is not None
    assert at_once.type == one_by_one.type
    np.testing.assert_array_equal(dense(feature, at_once), dense(feature, one_by_one))


def test_categories_are_numbers_where_they_are_written_so() -> None:
    assert [category_of(text) for text in (b"12", b"-7", b"0", b"")] == [12, -7, 0, 0]
    for text in ("012", "12.0", "+12", str(2**63), "1 2"):
        assert category_of(text.encode()) == id_of(text)


def test_of_rows_that_repeat_one_the_first_keeps_its_values_and_no_rule_keeps_their_order() -> None:
    kind = event_type(described())
    rows = np.zeros(3, logged(kind))
    rows["user"] = rows["item"] = rows["category"] = rows["behavior"] = rows["timestamp"] = 1
    rows["line"], rows["values"]["price"] = [0, 1, 2], [2.0, 3.0, 1.0]
    events, dropped = sort_partition([pack_chunk(0, 0, rows)], "same_event", kind)
    assert (events["values"]["price"].tolist(), dropped["place"]["line"].tolist()) == ([2.0], [1, 2])
    for order in ([0, 1, 2], [2, 1, 0]):
        events, dropped = sort_partition([pack_chunk(0, 0, rows[order])], "none", kind)
        assert (events["values"]["price"].tolist(), len(dropped)) == ([1.0, 2.0, 3.0], 0)

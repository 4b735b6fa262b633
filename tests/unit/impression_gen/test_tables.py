"""Tables beside the log: what they say of whom as of when, and what is refused."""

from __future__ import annotations

import datetime as dt
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr.components.dataset import DatasetConfig
from ctr.components.impression_gen.check import check
from ctr.components.impression_gen.events import logged, pack_chunk, sort_partition
from ctr.components.impression_gen.look import look_at
from ctr.components.impression_gen.tables import table_files, table_values
from ctr.components.impression_gen.values import DeclaredFields, ItemValues, event_type
from ctr.components.settings import IngestConfig
from ctr.models.errors import ConfigError, DataError
from ctr.models.string_ids import category_of, id_of

FEATURES: dict[str, Any] = {
    "price": {"of": "item", "table": "items", "column": "cost", "type": "number", "default": -1},
    "tags": {"of": "item", "table": "items", "column": "tags", "type": "categories", "max_values": 2},
    "city": {"of": "user", "table": "users", "column": "city"},
}


def described(folder: Path, items: str = "items.csv", **values: Any) -> DatasetConfig:
    return DatasetConfig.model_validate(
        {
            "header": True,
            "columns": {"user": "u", "item": "i", "time": "t"},
            "ids": {"user": "string", "item": "integer"},
            "features": FEATURES,
            "tables": {
                "items": {"path": str(folder / items), "of": "item", "key": "id", "time": "since"},
                "users": {"path": str(folder / "users.parquet"), "of": "user", "key": "name"},
            },
            **values,
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = ["id,cost,tags,since,more", "7,1.5,a|b|c,100,x", "7,,d,300,x", "9,4,,150,x", "7,2.5,,200,x"]
    (tmp_path / "items.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "items2.csv.gz").write_bytes(gzip.compress("\n".join([rows[0], *rows[:0:-1]]).encode()))
    since = [dt.datetime.fromtimestamp(int(row.split(",")[3]), dt.timezone.utc) for row in rows[1:]]
    columns: dict[str, Any] = {"id": [7, 7, 9, 7], "cost": [1.5, None, 4.0, 2.5], "since": since}
    pq.write_table(pa.table({**columns, "tags": [["a", "b", "c"], ["d"], [], None]}), tmp_path / "items.parquet")
    pq.write_table(pa.table({"name": ["ann", "bob"], "city": ["Bonn", None]}), tmp_path / "users.parquet")
    return tmp_path


@pytest.mark.parametrize("items", ["items.csv", "items2.csv.gz", "items.parquet"])
def test_a_row_holds_from_its_time_on_and_an_impression_knows_what_held_before_it(folder: Path, items: str) -> None:
    dataset = described(folder, items)
    tables = {name: ItemValues.of(table_values(name, dataset)) for name in dataset.tables}
    rows = np.zeros(6, logged(event_type(dataset)))
    rows["user"] = [id_of("ann")] * 3 + [id_of("bob")] * 2 + [id_of("eve")]
    rows["item"], rows["timestamp"] = [7, 7, 9, 7, 9, 8], [99, 100, 150, 201, 400, 500]
    rows["category"] = rows["behavior"] = 1
    assert rows.dtype.names == ("user", "item", "category", "behavior", "timestamp", "line"), "the log has no values"
    events, _ = sort_partition([pack_chunk(0, 0, rows)], "same_event", event_type(dataset))
    fields = DeclaredFields(events, dataset, tables)
    of_row = {(int(row["user"]), int(row["timestamp"])): at for at, row in enumerate(events)}

    def history(user: str, time: int) -> list[Any]:
        found = fields.of_history(np.array([of_row[id_of(user), time]]))
        return [found[name][0] for name in ("price", "tags_1", "tags_2")]

    a, b, d = (id_of(name) for name in "abd")
    assert history("ann", 99) == [-1, 0, 0]
    assert history("ann", 100) == [1.5, a, b], "it holds from then on"
    assert history("bob", 201) == [2.5, a, b], "what is not there is as it was"
    candidates = np.array([[7, 9, 8]] * 4)
    shown = fields.of_candidates(candidates, np.array([100, 101, 300, 301]), np.full((4, 3), -1))
    assert shown["price"].reshape(4, 3).tolist() == [[-1, -1, -1], [1.5, -1, -1], [2.5, 4, -1], [2.5, 4, -1]]
    assert shown["tags_1"].reshape(4, 3)[:, 0].tolist() == [0, a, a, d]
    positive = np.array([of_row[id_of(user), time] for user, time in (("ann", 99), ("bob", 201), ("eve", 500))])
    context = fields.of_context(positive, np.ones(3, bool))
    assert context["city"].tolist() == [category_of(b"Bonn"), 0, 0]


def test_what_is_wrong_with_a_table_is_told(folder: Path) -> None:
    def values(text: str, name: str = "items", **more: Any) -> None:
        (folder / "items.csv").write_text(text)
        table_values(name, described(folder, **more))

    for text, says in (
        ("id,cost,tags,since\n7,1,a,100\n8,dear,a,100\n", r"items.csv, line 3: bad_value \(price is no number"),
        ("id,cost,tags,since\nx,1,a,100\n", r"line 2: not_an_integer \(item \(column 'id': x\)\)"),
        ("key,cost,tags,since\n7,1,a,100\n", r"ingest.dataset.tables.items.key is 'id'"),
        ("id,cost,tags,since\n", r"ingest.dataset.tables.items: .*items.csv has no row"),
        ("id,price,tags,since\n7,1,a,100\n", r"ingest.dataset.features.price.column is 'cost'"),
    ):
        with pytest.raises(DataError, match=says):
            values(text)
    always = {"items": {"path": str(folder / "items.csv"), "of": "item", "key": "id"}}
    features = {name: each for name, each in FEATURES.items() if name != "city"}
    with pytest.raises(DataError, match=r"tables.items: 1 values of its key, column 'id', stand in several rows"):
        values("id,cost,tags\n7,1,a\n7,2,a\n8,1,b\n", tables=always, features=features)
    for wrong, says in (
        ({"tables": always}, "features.city.table is 'users'; there are items"),
        ({"features": features}, "tables.users: no feature is taken from it"),
        ({"features": {**FEATURES, "city": {**FEATURES["city"], "of": "item"}}}, "table users is of the user"),
        ({"items": "items.txt"}, "has none of the suffixes .csv"),
    ):
        with pytest.raises(ValueError, match=says):
            described(folder, **wrong)


def test_a_table_is_looked_for_before_a_run_and_is_part_of_what_the_cache_compares(folder: Path) -> None:
    log = folder / "log.csv"
    log.write_text("u,i,t\n" + "".join(f"u{n % 5},{7 + n * n % 31},{1000 + n}\n" for n in range(90)))
    ingest = IngestConfig(dataset=described(folder))
    assert look_at(str(log), ingest) is not None
    assert check(str(log), ingest).refusal is None
    before = table_files(ingest.dataset)
    os.utime(folder / "items.csv", (1, 1))
    assert table_files(ingest.dataset) != before
    (folder / "users.parquet").unlink()
    with pytest.raises(ConfigError, match=r"ingest.dataset.tables.users.path: .*users.parquet does not exist"):
        look_at(str(log), ingest)

"""Declared features of impressions: their values as of when, in every format, whatever cuts the log."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from declared_log import DECLARED, NAMES, described
from ingest_runs import WINDOW_START, Ingested, ingest_files, random_rows

from ctr.components.dataset import DatasetConfig
from ctr.components.impression_gen.sources import find_logs
from ctr.components.settings import IngestConfig, PlausibilityConfig
from ctr.models.impression import SPLITS
from ctr.models.negatives import StoredNegatives
from ctr.models.string_ids import category_of

pytestmark = pytest.mark.usefixtures("table")


def described_in(folder: Path, form: str) -> DatasetConfig:
    return described(
        format=form,
        tables={"items": {"path": str(folder / "items.jsonl"), "of": "item", "key": "id"}},
        features={**DECLARED, "colour": {"of": "item", "table": "items", "column": "colour"}},
    )


LOG: Final = random_rows(seed=5, rows=1000, users=40, items=150, categories=5, seconds=50_000)
SETTINGS: Final = IngestConfig(
    history_length=5,
    block_megabytes=1,
    training_negatives=StoredNegatives(uniform=1, contemporaneous=1, revisit=0),
    contemporaneous_events=20,
    plausibility=PlausibilityConfig(min_events=10_000),
)


def values_of(row: tuple[int, int, int, str, int]) -> dict[str, Any]:
    """Made of the row, so that one that repeats it has them too."""
    user, item, _, _, time = row
    week = (time - WINDOW_START) // 9000
    return {
        "price": None if (user + time) % 7 == 0 else round(item * 0.37 + week, 2),
        "brand": [None, f"Maß {item % 9}", item % 9, "x,y"][(item + week) % 4],
        "tags": [[], ["a"], [f"t{item % 5}", "b", "c"], [str(item)]][item % 4],
        "strength": None if time % 3 else time % 60,
        "years": None if time % 5 else 20 + user % 40 + week,
        "device": ["web", "app", None][(user + week) % 3],
    }


def write(form: str, folder: Path, rows: Sequence[tuple[int, int, int, str, int]]) -> DatasetConfig:
    folder.mkdir()
    items = [json.dumps({"id": item, "colour": f"c{item % 5}"}) + "\n" for item in range(1, 151)]
    (folder.parent / "items.jsonl").write_text("".join(items))
    table = [{**dict(zip(NAMES, row, strict=True)), **values_of(row)} for row in rows]
    if form == "csv":
        names = list(table[0])

        def cell(value: Any) -> str:
            text = "" if value is None else "|".join(value) if isinstance(value, list) else str(value)
            return f'"{text}"' if "," in text else text

        lines = [",".join(names), *(",".join(cell(row[name]) for name in names) for row in table)]
        (folder / "a.csv").write_text("\n".join(lines) + "\n")
    elif form == "json":
        lines = [json.dumps({name: value for name, value in row.items() if value is not None}) for row in table]
        (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    else:
        columns = {name: [row[name] for row in table] for name in table[0]}
        columns["brand"] = [None if each is None else str(each) for each in columns["brand"]]
        pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=300)
    return described_in(folder.parent, form)


def ingested(
    form: str, folder: Path, rows: Sequence[tuple[int, int, int, str, int]], partitions: int = 2
) -> tuple[Ingested, dict[str, list[bytes]]]:
    dataset = write(form, folder / form, rows)
    ingest = SETTINGS.model_copy(update={"dataset": dataset, "user_partitions": partitions})
    logs = [Path(file) for file in find_logs(str(folder / form), dataset).files]
    done = ingest_files(logs, folder / "out", ingest)
    return done, {split: done.serialized(split) for split in SPLITS}


@pytest.fixture(scope="module")
def from_csv(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ingested, dict[str, list[bytes]]]:
    return ingested("csv", tmp_path_factory.mktemp("csv"), LOG)


def test_the_whole_ingest_gives_what_was_known(from_csv: tuple[Ingested, dict[str, list[bytes]]]) -> None:
    kept = list(dict.fromkeys(LOG))
    done, _ = from_csv
    assert "bad_value" not in done.summary.quarantined
    stale = 0
    by_item: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for row in sorted(kept, key=lambda row: row[4]):
        by_item.setdefault(row[1], []).append((row[4], values_of(row)))
    for impression in itertools.chain.from_iterable(map(done.impressions, SPLITS)):
        (t,) = impression["timestamp"]
        for place, item in enumerate(impression["candidate_item_id"]):
            past = [values for time, values in by_item[item] if time < t]
            prices = [values["price"] for values in past if values["price"] is not None]
            brands = [values["brand"] for values in past if values["brand"]]
            tags = [values["tags"] for values in past if values["tags"]]
            assert impression["candidate_price"][place] == np.float32(prices[-1] if prices else -1)
            assert impression["candidate_brand"][place] == (category_of(str(brands[-1]).encode()) if brands else 0)
            first, second, *_ = [*(category_of(tag.encode()) for tag in (tags[-1] if tags else ())), 0, 0]
            assert [impression[f"candidate_tags_{n}"][place] for n in (1, 2)] == [first, second]
            assert impression["candidate_colour"][place] == category_of(f"c{item % 5}".encode())
            stale += bool(prices) and prices[-1] != prices[0]
    assert stale > 300, "values change"


@pytest.mark.parametrize(("form", "partitions"), [("json", 1), ("parquet", 3)])
def test_every_format_order_and_number_of_partitions_gives_the_same(
    form: str, partitions: int, from_csv: tuple[Ingested, dict[str, list[bytes]]], tmp_path: Path
) -> None:
    rows = LOG[::-1] if form == "json" else sorted(LOG)
    assert ingested(form, tmp_path, rows, partitions=partitions)[1] == from_csv[1]

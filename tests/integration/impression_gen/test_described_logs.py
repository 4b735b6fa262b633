"""Logs by their descriptions through the whole ingest: the impressions of the public log, whatever held its rows."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_runs import Ingested, as_csv, ingest_files, random_rows
from pages import ROOT

from ctr.components import files
from ctr.components.dataset import DatasetConfig
from ctr.components.examples.names import read_names
from ctr.components.impression_gen import build, columns
from ctr.components.impression_gen.bigquery import read_table
from ctr.components.impression_gen.build import run_ingest
from ctr.components.impression_gen.look import look_at
from ctr.components.impression_gen.sources import find_logs
from ctr.components.settings import IngestConfig, PlausibilityConfig
from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import GeneratorConfig
from ctr.models.impression import BEHAVIORS
from ctr.models.string_ids import id_of
from ctr.pipeline.settings.datasets import dataset_names, read_dataset

ROWS = random_rows(seed=5, rows=2500, users=40, items=200, categories=5, seconds=50_000)
SETTINGS = IngestConfig(user_partitions=2, targets_per_user=3)
NAMES = ("u", "i", "c", "b", "t")
WINDOW = {"start": "2017-11-25T00:00:00", "end": "2017-12-03T23:59:59"}


def described(**values: Any) -> IngestConfig:
    return SETTINGS.model_copy(
        update={
            "dataset": DatasetConfig.model_validate(
                {
                    "columns": dict(zip(("user", "item", "category", "behavior", "time"), NAMES, strict=True)),
                    "behaviors": {name: name for name in BEHAVIORS},
                    "time": {"zone": "Asia/Shanghai"},
                    "window": WINDOW,
                    **values,
                }
            )
        }
    )


def write(form: str, folder: Path) -> IngestConfig:
    """The rows in a format, and the settings that read them."""
    folder.mkdir()
    if form == "tsv":
        text = "\t".join(("t", "b", "extra", "c", "i", "u")) + "\n"
        text += "".join(f"{t}\t{b}\t-\t{c}\t{i}\t{u}\n" for u, i, c, b, t in ROWS)
        (folder / "a.tsv.gz").write_bytes(gzip.compress(text.encode()))
        return described(header=True, separator="\t")
    if form == "json":
        lines = [json.dumps({**dict(zip(NAMES, row, strict=True)), "t": row[4] * 1000}) + "\n" for row in ROWS]
        (folder / "a.jsonl").write_text("".join(lines[:700]))
        (folder / "b.jsonl.zst").write_bytes(pa.compress("".join(lines[700:]).encode(), codec="zstd", asbytes=True))
        return described(format="json", time={"unit": "ms", "zone": "Asia/Shanghai"})
    for kind in BEHAVIORS:
        rows = [row for row in ROWS if row[3] == kind]
        table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(NAMES) if name != "b"})
        (folder / f"b={kind}").mkdir()
        pq.write_table(table, folder / f"b={kind}" / "part-0.parquet", row_group_size=300)
    return described(format="parquet")


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    folder = tmp_path_factory.mktemp("public")
    (folder / "log.csv").write_bytes(as_csv(ROWS))
    return ingest_files([folder / "log.csv"], folder / "out", SETTINGS)


@pytest.mark.parametrize("form", ["tsv", "json", "parquet"])
def test_the_impressions_are_those_of_the_public_log_to_the_byte(form: str, public: Ingested, tmp_path: Path) -> None:
    ingest = write(form, tmp_path / "log")
    logs = [Path(file) for file in find_logs(str(tmp_path / "log"), ingest.dataset).files]
    done = ingest_files(logs, tmp_path / "out", ingest)
    assert done.files("examples", "catalogue") == public.files("examples", "catalogue")
    assert (done.summary.rows_read, done.summary.quarantined) == (public.summary.rows_read, public.summary.quarantined)


def test_a_table_of_bigquery_gives_the_same_impressions(
    public: Ingested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = described(format="bigquery")
    monkeypatch.setattr(files, "_stat_of_table", lambda path: files.Stat(1000, 7))
    # Beam's own source, as far as it goes without a project: the graph is made, and asks for these columns.
    pipeline = beam.Pipeline()
    run_ingest(pipeline, ["bq://my-project.shop.events"], ingest, *(str(tmp_path / name) for name in ("e", "c", "q")))
    names = {transform.unique_name for transform in pipeline.to_runner_api().components.transforms.values()}
    assert {name for name in names if name.startswith("ReadTable")}
    source = read_table("bq://my-project.shop.events", ingest.dataset)
    assert source._kwargs["selected_fields"] == list(NAMES)
    priced = described(format="bigquery", features={"price": {"of": "item", "column": "cost", "type": "number"}})
    assert read_table("bq://my-project.shop.events", priced.dataset)._kwargs["selected_fields"] == [*NAMES, "cost"]
    assert source._kwargs["table"] == "my-project:shop.events"
    # Rows as it gives them, in its place.
    times = [dt.datetime.fromtimestamp(row[4], dt.timezone.utc) for row in ROWS]
    rows = [dict(zip(NAMES, (*row[:4], time), strict=True)) for row, time in zip(ROWS, times, strict=True)]
    monkeypatch.setattr(build, "read_table", lambda data, dataset: beam.Create(rows))
    done = ingest_files(["bq://my-project.shop.events"], tmp_path / "out", ingest)
    assert done.files("examples", "catalogue") == public.files("examples", "catalogue")
    assert done.summary.quarantined == public.summary.quarantined
    for data, settings, says in (
        ("bq://my-project.shop.events", SETTINGS, "format: bigquery"),
        ("bq://t", ingest, "is no table"),
    ):
        with pytest.raises(ValueError, match=says):
            find_logs(data, settings.dataset)


def test_reviews_with_strings_become_impressions_and_a_dictionary(tmp_path: Path) -> None:
    log = tmp_path / "reviews.json.gz"
    generate(GeneratorConfig(users=40, items=400, categories=20, like="amazon-reviews"), log)
    reviews = [json.loads(line) for line in gzip.decompress(log.read_bytes()).decode().splitlines()]
    # A kind that the description leaves out.
    dataset = read_dataset("amazon-reviews").model_copy(update={"ratings": {"fav": 4.0, "pv": 2.0}})
    ingest = SETTINGS.model_copy(update={"dataset": dataset})
    done = ingest_files([log], tmp_path / "out", ingest)
    assert done.summary.rows_read == len(reviews)
    assert done.summary.rows_left_out == sum(review["overall"] < 2 for review in reviews) > 0
    assert done.summary.rows_kept == len(reviews) - done.summary.rows_left_out
    impressions = done.impressions("eval")
    assert {BEHAVIORS["fav"]} == {row["target_behavior"][0] for row in impressions}
    assert {BEHAVIORS["fav"], BEHAVIORS["pv"]} == {kind for row in impressions for kind in row["history_behavior"]}
    assert {1} == {category for row in impressions for category in row["candidate_category_id"]}
    candidates = {item for row in impressions for item in row["candidate_item_id"]}
    assert read_names(str(done.folder / "catalogue"), "item", candidates) == {
        id_of(review["asin"]): review["asin"] for review in reviews if id_of(review["asin"]) in candidates
    }
    assert read_names(str(done.folder / "catalogue"), "user", [7, id_of(reviews[0]["reviewerID"])]) == {
        id_of(reviews[0]["reviewerID"]): reviews[0]["reviewerID"]
    }


def test_two_strings_of_one_id_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Hashes of 64 bits do not collide by chance in a test.
    monkeypatch.setattr(columns, "digest", lambda name: bytes([1 + sum(name) % 200]) * 8)
    rows = [(f"user-{u}", i, c, b, t) for u, i, c, b, t in ROWS]
    (tmp_path / "a.csv").write_text(",".join(NAMES) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    ingest = described(header=True, ids={"user": "string"})
    with pytest.raises(Exception, match=r"user 'user-\d+' and user 'user-\d+' have one hash, \d+, and cannot be told"):
        ingest_files([tmp_path / "a.csv"], tmp_path / "out", ingest)


# The first rows of these data sets as their own pages show them, then more by hand.
DOCUMENTED = {
    "movielens": ("ratings.csv", "userId,movieId,rating,timestamp\n", "{user},{item},{half},{time}\n"),
    "retailrocket": (
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n",
        "{time}117,{user},{event},{item},\n",
    ),
}


@pytest.mark.parametrize("name", dataset_names())
def test_a_shipped_description_reads_the_documented_format(name: str, tmp_path: Path) -> None:
    dataset = read_dataset(name)
    if name not in DOCUMENTED:
        assert name in ("public", "amazon-reviews", "exposures"), "generated logs are read by it in other tests"
        assert name != "public" or dataset == IngestConfig().dataset
        return
    file, header, row = DOCUMENTED[name]
    events = ("view", "view", "view", "addtocart", "transaction")
    text = header + "".join(
        row.format(
            user=i % 20 + (name == "movielens"),
            item=7 + i * i % 31,
            half=i % 10 / 2 + 0.5,
            time=1433221332 + 977 * i,
            event=events[i % 5],
        )
        for i in range(20 if name == "movielens" else 0, 400)
    )
    (tmp_path / file).write_text(text)
    (tmp_path / "other.csv").write_text("movieId,title\n1,Toy Story\n")
    ingest = IngestConfig(dataset=dataset, plausibility=PlausibilityConfig(min_events=10), min_history=0)
    catalogue = look_at(str(tmp_path), ingest)
    assert catalogue is not None
    assert len(catalogue.item_ids) > 5


def test_every_shipped_description_is_named_in_the_docs() -> None:
    page = (ROOT / "docs/data.md").read_text()
    assert all(f"`{name}`" in page for name in dataset_names())

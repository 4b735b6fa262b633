"""What is guessed of logs of several shops, and what is said of them without a run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctr.components.dataset import Columns, DatasetConfig
from ctr.components.impression_gen import check as checks
from ctr.components.impression_gen.check import check
from ctr.components.impression_gen.inspection import inspect
from ctr.components.settings import IngestConfig
from ctr.generator.behavior_log import generate
from ctr.generator.forms import SHOP_EVENTS
from ctr.generator.generator_config import GeneratorConfig
from ctr.models.impression import BEHAVIORS
from ctr.pipeline.commands import cli
from ctr.pipeline.settings.datasets import read_dataset


def guessed(data: Path) -> DatasetConfig:
    return DatasetConfig.model_validate(yaml.safe_load(inspect(str(data)).yaml))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "events.csv"
    return generate(GeneratorConfig(users=60, seed=7, like="shop"), path).path


def test_a_shops_log_is_guessed_and_taken(shop: Path) -> None:
    found = guessed(shop)
    assert dict(found.given_columns()) == {
        "user": "customer",
        "item": "product",
        "category": "department",
        "behavior": "event_type",
        "time": "event_time",
    }
    assert (found.separator, found.header, found.time.format) == (";", True, "iso")
    assert found.string_ids == ("user", "item", "category")
    assert found.behaviors == {name: kind for kind, name in SHOP_EVENTS.items()}
    text = inspect(str(shop)).yaml
    assert "#   channel: text such as web, 1 different" in text
    assert "! time.zone: times have no offset" in text
    done = check(str(shop), IngestConfig(dataset=found))
    assert (done.whole, done.refusal, done.unused) == (True, None, ["channel"])
    assert sum(done.behaviors.values()) == done.rows == len(shop.read_text().splitlines()) - 1


def test_what_could_be_a_feature_is_written_as_a_comment_that_is_taken_when_it_is_none(tmp_path: Path) -> None:
    rows = [
        {
            "user": f"u{i % 9}",
            "item": f"i{i % 13}",
            "time": 1_700_000_000 + i,
            "price": 1.5 * (i % 13),
            "Item Colour": ["red", "blue", "green"][i % 13 % 3],
            "labels": [f"l{i % 13}", "x"],
            "age": 20 + i % 9,
            "dwell": i * i % 101,
            "shopId": i % 40,
            "same": "web",
        }
        for i in range(400)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = inspect(str(tmp_path / "a.jsonl")).yaml
    lines = text.splitlines()
    start = lines.index("# features:")
    assert DatasetConfig.model_validate(yaml.safe_load(text)).features == {}
    assert "number, 0.0 to 18.0, 13 different of 400; the same in 100% of the rows of one item" in text
    taken = "\n".join([*lines[:start], *(line.removeprefix("# ") for line in lines[start:])])
    found = DatasetConfig.model_validate(yaml.safe_load(taken)).features
    assert {name: (each.of, each.column, each.kind) for name, each in found.items()} == {
        "price": ("item", "price", "number"),
        "item_colour": ("item", "Item Colour", "category"),
        "labels": ("item", "labels", "categories"),
        "my_age": ("user", "age", "number"),
        "dwell": ("event", "dwell", "number"),
        "shop_id": ("event", "shopId", "category"),
    }
    done = check(str(tmp_path / "a.jsonl"), IngestConfig(dataset=DatasetConfig.model_validate(yaml.safe_load(taken))))
    assert (done.unused, done.quarantined["bad_value"]) == (["same"], 0)


def test_the_public_log_and_reviews_are_guessed(tmp_path: Path) -> None:
    public = generate(GeneratorConfig(users=40, seed=7), tmp_path / "log.csv.gz").path
    found = guessed(public)
    assert found.is_public_form
    reviews = generate(
        GeneratorConfig(users=60, items=500, categories=9, like="amazon-reviews"), tmp_path / "r.json.gz"
    )
    found, known = guessed(reviews.path), read_dataset("amazon-reviews")
    for name in ("format", "columns", "ids", "ratings", "targets", "time", "window"):
        assert getattr(found, name) == getattr(known, name), name


def test_a_log_of_exposures_is_guessed(tmp_path: Path) -> None:
    written = generate(GeneratorConfig(users=60, seed=7, like="exposures"), tmp_path / "shown")
    path = written.path
    found, known = guessed(path), read_dataset("exposures")
    for name in ("format", "columns", "ids", "time", "window"):
        assert getattr(found, name) == getattr(known, name), name
    text = inspect(str(path)).yaml
    assert "! clicked: rows are taken for what was shown" in text
    assert "#   device: {of: request, column: device, type: category}" in text
    done = check(str(path), IngestConfig(dataset=found))
    assert (done.refusal, set(done.quarantined)) == (None, set())
    assert done.exposures["shown"] == done.rows > 2 * done.exposures["clicked"]
    assert done.behaviors == {"pv": done.exposures["clicked"]}, "a mere showing is no page view"


@pytest.mark.parametrize(
    ("head", "row", "expected"),
    [
        (
            "timestamp,visitorid,event,itemid",
            lambda i: f"{1433221332117 + 999 * i},{i % 9},{['view', 'addtocart', 'transaction'][i % 3]},{7 + i % 13}",
            {
                "time": "timestamp",
                "user": "visitorid",
                "behavior": "event",
                "item": "itemid",
                "unit": "ms",
                "text": "user",
            },
        ),
        (
            "userId|movieId|rating|timestamp",
            lambda i: f"{1 + i % 9}|{1 + i % 13}|{i % 10 / 2 + 0.5}|{1433221332 + i}",
            {"time": "timestamp", "user": "userId", "behavior": "rating", "item": "movieId", "unit": "s", "text": ""},
        ),
        (
            "id\tday\tsku\tmember",
            lambda i: f"{i}\t{1 + i % 28:02}/12/2023 10:00:00\t{i % 13:032x}\t{i % 9 + 1}",
            {"time": "day", "user": "member", "item": "sku", "unit": "s", "text": "item", "form": "%d/%m/%Y %H:%M:%S"},
        ),
    ],
)
def test_roles_units_and_separators_are_guessed(tmp_path: Path, head: str, row: Any, expected: dict[str, str]) -> None:
    (tmp_path / "a.csv").write_text("\n".join([head, *map(row, range(500))]) + "\n")
    found = guessed(tmp_path / "a.csv")
    roles = {name: column for name, column in expected.items() if name in Columns.model_fields}
    assert dict(found.given_columns()) == roles
    assert found.time.unit == expected["unit"]
    assert found.time.format == expected.get("form")
    assert found.string_ids == tuple(filter(None, [expected["text"]]))


def test_odd_things_are_warned_of(tmp_path: Path) -> None:
    rows = [f"{i % 9:032x},{1 + i % 13},{i % 3 + i % 13},view,{1700000000 + 60 * (i % 50)}" for i in range(600)]
    text = "\n".join(["user,item,category,event,time", *rows, *rows[:9], "short,row"])
    (tmp_path / "a.csv").write_text(text + "\n")
    warnings = "\n".join(inspect(str(tmp_path / "a.csv")).warnings)
    for part in (
        "user: user looks like hashes",
        "1 of 611 lines have another number",
        "duplicates: ",
        "category: items have",
        "not in order of time",
    ):
        assert part in warnings
    (tmp_path / "b.csv").write_text("colour,size\n" + "red,1\nblue,2\n" * 50)
    with pytest.raises(ValueError, match=r"no separator .* cuts its lines into fields"):
        inspect(str(tmp_path / "b.csv"))
    (tmp_path / "c.csv").write_text("colour,size,weight\n" + "red,1,2\nblue,2,3\n" * 50)
    found = inspect(str(tmp_path / "c.csv"))
    assert not found.complete
    assert "  time: null  # not found; choose one of those below" in found.yaml


def test_a_large_log_is_checked_by_its_beginning_middle_and_end(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_BYTES", 30_000)
    monkeypatch.setattr("ctr.components.impression_gen.look.BYTES", 10_000)
    dataset = guessed(shop)
    good = check(str(shop), IngestConfig(dataset=dataset))
    assert not good.whole
    assert good.refusal is None
    header, *rows = shop.read_text().splitlines()
    last = ["never" + row[5:] for row in rows[-200:]]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows[:-200], *last]) + "\n")
    bad = check(str(tmp_path / "a.csv"), IngestConfig(dataset=dataset))
    assert bad.quarantined["not_a_time"] > 20
    assert bad.refusal is not None
    assert "of the sampled" in bad.refusal
    assert "Probably times such as" in bad.refusal


def test_the_commands_write_say_and_exit(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["inspect", str(shop), "--output", "shop.yaml"]) == 0
    assert cli.main(["inspect", str(shop), "--output", "shop.yaml"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["inspect", str(shop)]) == 0
    assert capsys.readouterr().out == Path("shop.yaml").read_text()
    assert cli.main(["check-data", str(shop), "--dataset", "shop.yaml"]) == 0
    assert "columns that are not used: channel\na run would take it" in capsys.readouterr().out
    assert cli.main(["check-data", str(shop), "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["quarantined"]["wrong_field_count"] > 1000
    assert "--dataset FILE gives it" in shown.err
    Path("wrong.yaml").write_text(Path("shop.yaml").read_text().replace("customer", "custmer"))
    assert cli.main(["check-data", str(shop), "--dataset", "wrong.yaml"]) == 1
    line = 1 + next(at for at, line in enumerate(Path("wrong.yaml").read_text().splitlines()) if "custmer" in line)
    shown = capsys.readouterr()
    assert "did you mean customer?" in shown.err
    assert f"(wrong.yaml, line {line})" in shown.err
    assert (
        cli.main(["check-data", str(shop), "--dataset", "wrong.yaml", "--set", "ingest.dataset.time.unit=years"]) == 2
    )


def test_a_table_is_left_to_the_run() -> None:
    columns = {"user": "u", "item": "i", "time": "t"}
    dataset = DatasetConfig.model_validate({"format": "bigquery", "columns": columns})
    for look in (inspect, lambda data: check(data, IngestConfig(dataset=dataset))):
        with pytest.raises(ValueError, match="export some of its rows as Parquet"):
            look("bq://project.shop.events")


def test_compressed_files_and_folders_are_looked_at(shop: Path, tmp_path: Path) -> None:
    lines = shop.read_bytes().splitlines(keepends=True)
    for part in range(3):
        text = lines[0] + b"".join(lines[1 + part :: 3])
        (tmp_path / f"part-{part}.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "readme.txt").write_text("no log")
    found = guessed(tmp_path)
    assert found.columns.user == "customer"
    done = check(str(tmp_path), IngestConfig(dataset=found))
    assert (done.rows, len(done.files), done.ignored) == (len(lines) - 1, 3, ["readme.txt"])
    assert set(done.behaviors) == set(BEHAVIORS)

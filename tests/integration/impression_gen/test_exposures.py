"""Logs of exposures through the whole ingest, beside a plain reading of the same rows."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_runs import Ingested, ingest_files

from ctr.components.counting import CountsConfig
from ctr.components.dataset import DatasetConfig
from ctr.components.impression_gen.look import look_at
from ctr.components.settings import IngestConfig, PlausibilityConfig
from ctr.models.errors import DataError
from ctr.models.impression import BEHAVIORS, SPLITS
from ctr.models.string_ids import id_of

START = 1_700_000_000
MOST = 4
HISTORY = 5


class Row(NamedTuple):
    user: int
    item: int
    kind: str | None
    time: int
    request: str | None
    clicked: int | None
    position: int | None


def rows_of(seed: int) -> list[Row]:
    """Requests of 1 to 6 items, some without a click, with repeated rows, and purchases among them, in no order."""
    draw = random.Random(seed)  # noqa: S311
    rows = []
    for number in range(400):
        user, time = draw.randint(1, 12), START + draw.randrange(4000)
        items = draw.sample(range(1, 60), draw.randint(1, 6))
        shown = [
            Row(user, item, None, time, f"r{number}", int(draw.random() < 0.3), place)
            for place, item in enumerate(items, 1)
        ]
        if draw.random() < 0.1:
            shown.append(shown[0]._replace(clicked=1 - (shown[0].clicked or 0)))
        rows += shown
        if draw.random() < 0.2:
            rows.append(Row(user, items[0], "buy", time + draw.randrange(50), None, None, None))
    # Two users and two seconds of one request, and a row twice.
    rows += [Row(1, 3, None, START + 10, "two users", 0, 1), Row(2, 4, None, START + 10, "two users", 1, 2)]
    rows += [Row(3, 3, None, START + 10, "two times", 0, 1), Row(3, 4, None, START + 11, "two times", 1, 2)]
    rows.append(rows[0])
    draw.shuffle(rows)
    return rows


ROWS = rows_of(seed=3)
DATASET = DatasetConfig.model_validate(
    {
        "format": "parquet",
        "columns": {
            "user": "user",
            "item": "item",
            "behavior": "kind",
            "time": "time",
            "clicked": "clicked",
            "request": "request",
            "position": "position",
        },
        "behaviors": {"buy": "buy"},
        "exposures": {"max_candidates": MOST},
        "features": {
            "price": {"of": "item", "column": "price", "type": "number", "used": ["candidate"]},
            "years": {"of": "user", "column": "years", "type": "number"},
            "page": {"of": "request", "column": "request"},
            # No property of a request: its rows differ.
            "slot": {"of": "request", "column": "position", "type": "number"},
        },
    }
)
SETTINGS = IngestConfig(
    dataset=DATASET,
    user_partitions=3,
    history_length=HISTORY,
    counts=CountsConfig(item=(500, "all"), category=("all",)),
    max_quarantined_share=0.02,
    plausibility=PlausibilityConfig(min_events=100_000),
)


def price(row: Row) -> float:
    """Of an item then."""
    return row.item + row.time % 7 / 8


def years(row: Row) -> int | None:
    """Of a user then, where a row says so."""
    return 20 + row.time % 50 if row.time % 3 else None


def write(rows: list[Row], path: Path, row_group_size: int = 200) -> Path:
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in Row._fields}
    columns["price"], columns["years"] = list(map(price, rows)), list(map(years, rows))
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    folder = tmp_path_factory.mktemp("exposures")
    return ingest_files([write(ROWS, folder / "log.parquet")], folder / "out", SETTINGS)


def is_kept(row: Row) -> bool:
    """Whether its request does not contradict itself."""
    return not (row.request or "").startswith("two")


def has_happened(row: Row) -> bool:
    """Whether it is more than a showing."""
    return bool(row.kind or row.clicked) and is_kept(row)


def counts_of(rows: list[Row], item: int, before: int) -> tuple[int, int, int]:
    """Of a candidate, one by one: of its item in 500 seconds and in all, and of the one category."""
    times = [(row.item, row.time) for row in dict.fromkeys(rows) if has_happened(row) and row.time < before]
    of_item = [time for each, time in times if each == item]
    return sum(time >= before - 500 for time in of_item), len(of_item), len(times)


def found_counts(impression: dict[str, Any]) -> list[tuple[int, int, int]]:
    names = ("item_events_500s", "item_events_all", "category_events_all")
    return list(zip(*(impression[f"candidate_{name}"] for name in names), strict=True))


def last(rows: list[Row], value: Callable[[Row], Any], field: str, of: int, before: int) -> Any:
    """The last value that some row, whether it happened or not, says of an item or a user before a time; 0 for none."""
    known = [row for row in rows if getattr(row, field) == of and row.time < before and value(row) is not None]
    latest = max(filter(is_kept, known), key=lambda row: row.time, default=None)
    return value(latest) if latest else 0


def expected(rows: list[Row]) -> dict[tuple[int, int, tuple[int, ...]], dict[str, Any]]:
    """(user, time, candidates) -> what an impression holds, by request."""
    requests: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        if row.request is not None and is_kept(row):
            assert row.position is not None
            known = requests[row.request].get(row.position)
            clicked = int(bool(row.clicked) or bool(known and known.clicked))
            requests[row.request][row.position] = row._replace(clicked=clicked)
    happened = [
        (row.time, BEHAVIORS["buy"] if row.kind else BEHAVIORS["pv"], row)
        for row in dict.fromkeys(rows)
        if has_happened(row)
    ]
    found: dict[tuple[int, int, tuple[int, ...]], dict[str, Any]] = {}
    for shown in requests.values():
        first = next(iter(shown.values()))
        history = sorted(
            ((time, row.item, code) for time, code, row in happened if row.user == first.user and time < first.time),
            key=lambda event: event[0],
        )
        if not history:
            continue
        kept = [shown[place] for place in sorted(shown)][:MOST]
        items = tuple(row.item for row in kept)
        found[first.user, first.time, items] = {
            "label": [row.clicked for row in kept],
            "prices": list(map(price, kept)),
            "positions": [row.position for row in kept],
            "page": id_of(str(first.request)),
            "years": years(first) or 0,
            "slot": 1,
            "counts": [counts_of(rows, item, first.time) for item in items],
            "times": [time for time, _, _ in history][-HISTORY:],
            "length": min(len(history), HISTORY),
        }
    return found


def test_a_request_is_an_impression_of_what_was_shown_and_clicked_with_the_values_of_its_rows(
    ingested: Ingested,
) -> None:
    wanted = expected(ROWS)
    found = {}
    for split in SPLITS:
        for impression in ingested.impressions(split):
            (user,), (time,) = impression["user_id"], impression["timestamp"]
            items = tuple(impression["candidate_item_id"])
            found[user, time, items] = {
                "label": impression["label"],
                "prices": impression["candidate_price"],
                "positions": impression["candidate_position"],
                "page": impression["page"][0],
                "years": impression["years"][0],
                "slot": impression["slot"][0],
                "counts": found_counts(impression),
                "times": [time - age for age in impression["history_age"]],
                "length": len(impression["history_item_id"]),
            }
            assert impression["negative_set"] == [b"shown" if split == "eval" else b"mixed"]
    assert found == wanted
    assert any(not any(of["label"]) for of in found.values())
    assert any(sum(of["label"]) > 1 for of in found.values())


def test_what_is_cut_merged_and_without_a_click_is_counted(ingested: Ingested) -> None:
    summary = ingested.summary
    for split in SPLITS:
        counts, dropped = summary.exposures[split], sum(summary.dropped[split].values())
        assert counts["requests"] == summary.impressions[split] + dropped
        assert min(counts[name] for name in ("cut_requests", "requests_without_click", "clicked")) > 0
    assert sum(counts["requests"] for counts in summary.exposures.values()) == 400
    of_rows = sum(
        counts["candidates"] + counts["repeated_candidates"] + counts["cut_candidates"]
        for counts in summary.exposures.values()
    )
    assert of_rows == sum(row.kind is None for row in ROWS) - 5
    assert summary.rows_read == summary.rows_kept + sum(summary.quarantined.values())


def test_a_request_that_contradicts_itself_is_quarantined(ingested: Ingested) -> None:
    found = [(reason, detail) for _, _, reason, detail, _ in ingested.quarantine()]
    assert sorted(reason for reason, _ in found) == ["contradictory_request"] * 4 + ["duplicate"]
    assert all("several users or seconds in its request, which begins at " in d for r, d in found if r != "duplicate")


def test_the_order_of_the_rows_does_not_matter(ingested: Ingested, tmp_path: Path) -> None:
    again = ingest_files([write(sorted(ROWS, key=str), tmp_path / "log.parquet")], tmp_path / "out", SETTINGS)
    assert again.files("examples", "catalogue") == ingested.files("examples", "catalogue")


def test_negatives_are_drawn_where_they_are_asked_for(ingested: Ingested, tmp_path: Path) -> None:
    asked = IngestConfig.model_validate(
        {
            **SETTINGS.model_dump(),
            "training_negatives": {"uniform": 2},
            "evaluation_sets": ["shown", "uniform", "contemporaneous"],
        }
    )
    assert asked.training_negatives.total == 2
    drawn = ingest_files([write(ROWS, tmp_path / "log.parquet")], tmp_path / "out", asked)
    for before, after in zip(ingested.impressions("train"), drawn.impressions("train"), strict=True):
        shown = len(before["label"])
        assert after["candidate_item_id"][:shown] == before["candidate_item_id"]
        assert after["label"] == before["label"] + [0, 0]
        assert after["slot"] == before["slot"]
        assert after["candidate_position"] == before["candidate_position"] + [0, 0]
        assert len(set(after["candidate_item_id"])) == shown + 2
        (time,), (user,), items = after["timestamp"], after["user_id"], after["candidate_item_id"]
        # What a row of its own says would tell what was drawn.
        assert after["candidate_price"] == [last(ROWS, price, "item", item, time) for item in items]
        assert after["years"] == [last(ROWS, years, "user", user, time)]
        assert found_counts(after) == [counts_of(ROWS, item, time) for item in items]
    assert drawn.impressions("validation") == ingested.impressions("validation")
    by_set = defaultdict(list)
    for impression in drawn.impressions("eval"):
        by_set[impression["negative_set"][0]].append(impression)
    assert by_set[b"shown"] == ingested.impressions("eval")
    with_click = sum(any(impression["label"]) for impression in by_set[b"shown"])
    assert 0 < len(by_set[b"uniform"]) <= with_click
    assert all(impression["label"] == [1, 0] for impression in by_set[b"uniform"] + by_set[b"contemporaneous"])


def test_a_look_at_the_log_goes_through_the_same(tmp_path: Path) -> None:
    catalogue = look_at(str(write(ROWS, tmp_path / "log.parquet", 10_000)), SETTINGS)
    assert catalogue is not None
    assert len(catalogue.item_ids) > 50


@pytest.mark.parametrize(("clicked", "says"), [(0, "of train none was clicked"), (1, "of train all were clicked")])
def test_what_was_never_or_always_clicked_tells_nothing(clicked: int, says: str, tmp_path: Path) -> None:
    rows = [row if row.clicked is None else row._replace(clicked=clicked) for row in ROWS]
    settings = SETTINGS.model_copy(update={"max_quarantined_share": 0.1})
    with pytest.raises(DataError, match=says):
        look_at(str(write(rows, tmp_path / "log.parquet", 10_000)), settings)


def test_requests_of_users_without_a_past_are_told(tmp_path: Path) -> None:
    rows = [row._replace(user=100 + int(row.request[1:])) for row in ROWS if row.request and is_kept(row)]
    with pytest.raises(DataError, match="data: no request of train and validation and eval becomes") as refused:
        look_at(str(write(rows, tmp_path / "log.parquet", 10_000)), SETTINGS)
    lines = str(refused.value).splitlines()
    assert sum(int(line.split()[2]) for line in lines[1:4]) == 400
    assert lines[-1].endswith("1 events or more (ingest.min_history); of what was shown, only a click is one.")


def test_of_a_log_without_requests_a_second_of_a_user_is_one(tmp_path: Path) -> None:
    """In CSV and JSON, with names for clicks, and without positions."""
    rows = [row for row in ROWS if row.request is not None and is_kept(row)]
    rows = list({(row.user, row.time, row.item): row for row in rows}.values())
    lines = "".join(f"{r.user},{r.item},{r.time},{'click' if r.clicked else 'view'}\n" for r in rows)
    (tmp_path / "log.csv").write_text("user,item,time,seen\n" + lines)
    objects = ({"user": r.user, "item": r.item, "time": r.time, "seen": bool(r.clicked)} for r in rows)
    (tmp_path / "log.json").write_text("".join(json.dumps(each) + "\n" for each in objects))
    columns = {"user": "user", "item": "item", "time": "time", "clicked": "seen"}
    found = []
    for name, more in (
        ("csv", {"header": True, "exposures": {"max_candidates": 20, "clicked": {"click": True, "view": False}}}),
        ("json", {"exposures": {"max_candidates": 20}}),
    ):
        dataset = DatasetConfig.model_validate({"format": name, "columns": columns, **more})
        settings = SETTINGS.model_copy(update={"dataset": dataset})
        result = ingest_files([tmp_path / f"log.{name}"], tmp_path / name, settings)
        found.append([each for split in SPLITS for each in result.impressions(split)])
    assert found[0] == found[1]
    shown: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for row in rows:
        shown[row.user, row.time][row.item] = row.clicked or 0
    for impression in found[0]:
        of_second = shown[impression["user_id"][0], impression["timestamp"][0]]
        assert dict(zip(impression["candidate_item_id"], impression["label"], strict=True)) == of_second
        assert impression["candidate_item_id"] == sorted(of_second)

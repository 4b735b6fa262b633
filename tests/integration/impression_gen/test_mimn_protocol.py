"""The presets of MIMN's protocol: one impression a user, labels flipped, leaks only where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingest_runs import Ingested, as_csv, ingest_files, random_rows

from ctr.components.settings import IngestConfig
from ctr.models.errors import ConfigError
from ctr.models.impression import SPLITS
from ctr.pipeline.settings.pipeline_config import load_preset

Row = tuple[int, int, int, str, int]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return random_rows(seed=5, rows=6000, users=400, items=300, categories=20, seconds=500_000)


def last_events(rows: list[Row]) -> dict[int, int]:
    """User -> time of the last event."""
    result: dict[int, int] = {}
    for user, *_, time in rows:
        result[user] = max(time, result.get(user, 0))
    return result


def ingest(preset: str, rows: list[Row], folder: Path) -> tuple[IngestConfig, Ingested]:
    config = load_preset(preset, ["ingest.user_partitions=3", "ingest.history_length=20"]).ingest
    log = folder / "log.csv"
    log.write_bytes(as_csv(rows))
    return config, ingest_files([log], folder, config)


@pytest.fixture(scope="module", params=["mimn", "mimn-corrected"])
def done(request: pytest.FixtureRequest, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return (request.param, *ingest(request.param, rows, tmp_path_factory.mktemp(request.param)))


def test_each_user_has_one_impression_at_its_last_event_and_the_splits_are_of_users(
    done: tuple[str, IngestConfig, Ingested], rows: list[Row]
) -> None:
    _, config, result = done
    last = last_events(rows)
    by_split = {split: result.impressions(split) for split in SPLITS}
    users = [i["user_id"][0] for impressions in by_split.values() for i in impressions]
    assert len(users) == len(set(users)) > 0.95 * len(last)
    times = {split: [i["timestamp"][0] for i in impressions] for split, impressions in by_split.items()}
    assert all(last[i["user_id"][0]] == i["timestamp"][0] for each in by_split.values() for i in each)
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["eval"])
    assert len(times["eval"]) / len(users) == pytest.approx(config.eval_share, abs=0.02)
    assert len(times["validation"]) / len(users) == pytest.approx(config.validation_share, abs=0.02)
    assert {i["negative_set"][0] for i in by_split["eval"]} == {b"uniform"}


def test_labels_are_flipped_for_half_of_the_users(done: tuple[str, IngestConfig, Ingested], rows: list[Row]) -> None:
    _, _, result = done
    own: dict[int, set[int]] = {}
    for user, item, *_ in rows:
        own.setdefault(user, set()).add(item)
    impressions = [i for split in SPLITS for i in result.impressions(split)]
    for each in impressions:
        (item,), (label,) = each["candidate_item_id"], each["label"]
        assert (item in own[each["user_id"][0]]) == bool(label)
    assert np.mean([i["label"][0] for i in impressions]) == pytest.approx(0.5, abs=4 * 0.5 / len(impressions) ** 0.5)


def test_the_history_is_strictly_earlier_and_holds_the_candidate_where_that_leak_is_on(
    done: tuple[str, IngestConfig, Ingested], rows: list[Row]
) -> None:
    name, _, result = done
    for each in result.impressions("train"):
        user, time = each["user_id"][0], each["timestamp"][0]
        items, ages = list(each["history_item_id"]), list(each["history_age"])
        if name == "mimn":
            assert (items.pop(), ages.pop()) == (each["candidate_item_id"][0], 1)
            assert each["history_category_id"][-1] == each["candidate_category_id"][0]
        earlier = sorted(t for u, *_, t in set(rows) if u == user and t < time)[-20:]
        assert sorted(time - age for age in ages) == earlier
        assert len(items) == len(earlier)


def test_the_catalogue_is_of_the_train_window_unless_that_leak_is_on(
    done: tuple[str, IngestConfig, Ingested], rows: list[Row]
) -> None:
    name, _, result = done
    start = min(i["timestamp"][0] for i in result.impressions("validation"))
    known = set(result.catalogue.item_ids.tolist())
    everything = {item for _, item, *_ in rows}
    assert known == (everything if name == "mimn" else {item for _, item, *_, t in rows if t < start})
    assert known < everything or name == "mimn"


def test_the_leaks_are_named() -> None:
    assert load_preset("mimn").ingest.leaks == ("ingest.candidate_in_history", "ingest.catalogue_from")
    assert load_preset("mimn").training.choose_epoch_on == "eval"
    assert load_preset("mimn-corrected").ingest.leaks == ()
    assert load_preset("mimn-corrected").training.choose_epoch_on == "validation"
    assert load_preset("mimn").ingest.judged_set == "uniform"
    assert load_preset("full").ingest.judged_set == "contemporaneous"


@pytest.mark.parametrize(
    "wrong", ["ingest.evaluation_negatives=2", "ingest.training_negatives.uniform=2", "ingest.evaluation_sets=[]"]
)
def test_what_makes_no_sense_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="flip_labels|evaluation_sets"):
        load_preset("mimn", [wrong])

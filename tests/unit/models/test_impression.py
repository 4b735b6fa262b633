"""The table of features and the kinds of things, against all that cannot be derived from them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any, get_args

import numpy as np
import pytest
from pages import ROOT
from pydantic import ValidationError

from ctr.components.impression_gen.events import EVENT
from ctr.components.settings import IngestConfig
from ctr.generator.events import BEHAVIOR_SHARES
from ctr.models import impression
from ctr.models.impression import (
    BEHAVIORS,
    FEATURES,
    MAX_HISTORY,
    MAX_NEGATIVES,
    NEGATIVE_SETS,
    SPLITS,
    FeatureError,
    feature_modules,
    register_feature,
)
from ctr.models.negatives import StoredKind, StoredNegatives
from ctr.serving.impressions import Event


def hour(events: Any) -> Any:
    return events["timestamp"] // 3600 % 24


# --- from one place ------------------------------------------------------------------------------------------------


def test_each_kind_has_one_spelling() -> None:
    assert SPLITS == (impression.TRAIN_SPLIT, impression.VALIDATION_SPLIT, impression.EVAL_SPLIT)
    kinds = (impression.UNIFORM, impression.SAME_CATEGORY, impression.CONTEMPORANEOUS, impression.REVISIT)
    assert kinds == NEGATIVE_SETS
    assert get_args(StoredKind) == ("all", *NEGATIVE_SETS)
    assert tuple(StoredNegatives.model_fields) == IngestConfig().evaluation_sets == NEGATIVE_SETS
    assert IngestConfig().target_kinds == tuple(BEHAVIORS)
    assert BEHAVIOR_SHARES.keys() == {None, *BEHAVIORS}
    assert all(shares.keys() == BEHAVIORS.keys() for shares in BEHAVIOR_SHARES.values())


def test_what_is_stored_has_its_names_and_its_order() -> None:
    assert (*NEGATIVE_SETS, impression.MIXED) == ("uniform", "same_category", "contemporaneous", "revisit", "mixed")
    assert [f.name for f in impression.features_of("history")] == [n for n in FEATURES if n.startswith("history_")]


def test_stored_negatives_stand_in_the_order_of_their_kinds() -> None:
    counts = {kind: number for number, kind in enumerate(NEGATIVE_SETS, start=2)}
    stored = StoredNegatives(**counts)
    taken = [place for kind in NEGATIVE_SETS for place in range(100)[stored.columns(kind)]]
    assert taken == [*range(100)[stored.columns("all")]] == [*range(1, 1 + sum(counts.values()))]
    assert [len(range(100)[stored.columns(kind)]) for kind in NEGATIVE_SETS] == [*counts.values()]


@pytest.mark.parametrize(
    ("settings", "largest"),
    [
        ({"history_length": MAX_HISTORY}, True),
        ({"history_length": MAX_HISTORY + 1}, False),
        ({"evaluation_negatives": MAX_NEGATIVES}, True),
        ({"evaluation_negatives": MAX_NEGATIVES + 1}, False),
        ({"training_negatives": dict.fromkeys(NEGATIVE_SETS, MAX_NEGATIVES)}, True),
        ({"training_negatives": {NEGATIVE_SETS[0]: MAX_NEGATIVES + 1}}, False),
    ],
)
def test_sizes_end_where_they_are_said_to(settings: dict[str, Any], largest: bool) -> None:
    if largest:
        IngestConfig.model_validate(settings)
    else:
        with pytest.raises(ValidationError, match="less than or equal to"):
            IngestConfig.model_validate(settings)


def test_the_docs_say_what_the_table_says() -> None:
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    assert f"at most {MAX_HISTORY:,}." in page
    assert f"| `history_behavior` | {', '.join(f'{name} {code}' for name, code in BEHAVIORS.items())} |" in page
    data = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    for name in (*FEATURES, *NEGATIVE_SETS):
        assert re.search(rf"^\| .*`{name}`", data, flags=re.MULTILINE), name
    assert f"{', '.join(f'{name} {code}' for name, code in BEHAVIORS.items())}; for slices" in data
    names = [f"`{name}`" for name in BEHAVIORS]
    assert f"- `behavior` is {', '.join(names[:-1])} or {names[-1]};" in page
    (row,) = re.findall(r"^\| `rank` \| (int64 .*?) \|", page, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == impression.REQUEST_FEATURES


def test_features_come_from_the_fields_of_an_event() -> None:
    sources = {feature.source for feature in FEATURES.values() if isinstance(feature.source, str)}
    assert sources == {*(EVENT.names or ()), "age"}


def test_importing_the_table_loads_nothing_heavy() -> None:
    code = "import sys, ctr.models.impression, ctr.models.negatives; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- from outside --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("table")
def test_what_is_registered_is_in_every_list_and_in_requests() -> None:
    held = impression.REQUEST_FEATURES
    assert register_feature("hour", "history", largest=23)(hour) is hour
    register_feature("hour", "history", largest=23)(hour)

    assert held == [*impression.HISTORY_FEATURES, *impression.CANDIDATE_FEATURES]
    assert held.count("history_hour") == impression.MODEL_INPUTS.count("history_hour") == 1
    assert feature_modules() == [__name__]
    event = {"item_id": 12, "category_id": 3, "behavior": "pv", "age_seconds": 60}
    assert json.loads(Event.model_validate({**event, "hour": 5}).model_dump_json()) == {**event, "hour": 5}
    for wrong, place in ((event, "hour"), ({**event, "hour": 24}, "hour"), ({**event, "hour": 5, "day": 1}, "day")):
        with pytest.raises(ValidationError) as raised:
            Event.model_validate(wrong)
        assert [error["loc"] for error in raised.value.errors()] == [(place,)]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("name", "group", "settings", "expected"),
    [
        ("Hour", "history", {"largest": 23}, "feature 'Hour': give a name of small letters"),
        ("age", "history", {"largest": 23}, "history_age is there already; choose another name"),
        ("age_seconds", "history", {"largest": 23}, "history_age_seconds is there already"),
        ("item_index", "candidate", {"largest": 23}, "candidate_item_index is there already"),
        ("hour", "history", {"smallest": -1, "largest": 23}, "history_hour: values of -1 to 23 cannot be had"),
        ("hour", "history", {"largest": 10**9}, "give 0 <= smallest <= largest <= 10000000"),
    ],
)
def test_what_cannot_be_registered_is_refused(name: str, group: Any, settings: Any, expected: str) -> None:
    before = dict(FEATURES)
    with pytest.raises(FeatureError, match=re.escape(expected)):
        register_feature(name, group, **settings)(hour)
    assert before == FEATURES


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("wrong", "found"), [(lambda e: e["item"] / 2, "float64"), (lambda e: np.int64(3), r"\(\)")])
def test_what_is_computed_must_be_a_whole_number_an_event(wrong: Any, found: str) -> None:
    register_feature("wrong", "candidate", largest=3)(wrong)
    with pytest.raises(FeatureError, match=f"candidate_wrong: {__name__}.*{found}.* expected int64 of shape"):
        FEATURES["candidate_wrong"].of_events({"item": np.array([1, 2])})

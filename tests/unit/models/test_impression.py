"""The table of features and the kinds of things, against all that cannot be derived from them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, get_args

import pytest
from pages import ROOT
from pydantic import ValidationError

from components.settings import IngestConfig
from generator.events import BEHAVIOR_SHARES
from models import impression
from models.impression import (
    BEHAVIORS,
    MAX_HISTORY,
    MAX_NEGATIVES,
    NEGATIVE_SETS,
    SPLITS,
)
from models.negatives import StoredKind, StoredNegatives


def test_each_kind_has_one_spelling() -> None:
    assert SPLITS == (impression.TRAIN_SPLIT, impression.VALIDATION_SPLIT, impression.EVAL_SPLIT)
    assert {*NEGATIVE_SETS} == {impression.UNIFORM, impression.SAME_CATEGORY, impression.CONTEMPORANEOUS}
    assert get_args(StoredKind) == ("all", *NEGATIVE_SETS)
    assert tuple(StoredNegatives.model_fields) == IngestConfig().evaluation_sets == NEGATIVE_SETS
    assert IngestConfig().behaviors_as_targets == tuple(BEHAVIORS)
    assert BEHAVIOR_SHARES.keys() == {None, *BEHAVIORS}
    assert all(shares.keys() == BEHAVIORS.keys() for shares in BEHAVIOR_SHARES.values())


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
    names = [f"`{name}`" for name in BEHAVIORS]
    assert f"- `behavior` is {', '.join(names[:-1])} or {names[-1]};" in page
    (row,) = re.findall(r"^\| `rank` \| (.*?) \|", page, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(impression.REQUEST_FEATURES)


def test_importing_the_table_loads_nothing_heavy() -> None:
    code = "import sys, models.impression, models.negatives; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

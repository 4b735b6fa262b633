"""The table of metrics: what is in it can be computed, and what cannot is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pages import ROOT

from ctr.components.scoring.attributes import ATTRIBUTES
from ctr.components.scoring.bootstrap import FEWEST_UNITS
from ctr.components.scoring.evaluation import BoundKind
from ctr.components.scoring.metrics import METRICS, register_metric
from ctr.components.scoring.pairs import COLUMNS, Pairs
from ctr.components.settings import SETS, AucBounds, Bounds
from ctr.models.registration import RegistrationError, load_plugins

PAIRS = Pairs(
    labels=np.array([1, 0, 1, 0, 1], np.int8),
    predictions=np.array([0.9, 0.2, 0.4, 0.6, 0.5], np.float32),
    users=np.array([1, 1, 2, 2, 3]),
    new=np.array([True, True, False, False, False]),
    candidates=np.array([2, 2, 1]),
)
NONE = Pairs(**{name: getattr(PAIRS, name)[:0] for name in (*COLUMNS, "candidates")})


def test_each_metric_is_computed_and_keeps_to_its_range() -> None:
    values = {name: METRICS[name].load()(PAIRS) for name in METRICS}
    for name, value in values.items():
        assert METRICS[name].lowest <= value <= METRICS[name].highest
    # By hand: 4 of 6 comparisons are right; user 1 is ranked right, user 2 wrong, user 3 has one class.
    expected = {"auc": 4 / 6, "auc_new": 1, "gauc": 0.5, "gauc_users": 2, "gauc_users_skipped": 1}
    expected |= {"mrr": 0.75, "hit_rate": 0.5, "ndcg": (1 + np.log(2) / np.log(3)) / 2}
    expected["gauc_request"] = 0.5
    expected |= {"pairs": 5, "pairs_new": 2, "example_count": 3, "calibration": 2.6 / 3}
    expected["log_loss"] = -np.log([0.9, 0.8, 0.4, 0.4, 0.5]).mean()
    expected["normalised_entropy"] = expected["log_loss"] / -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))
    assert values == pytest.approx(expected)


def test_without_pairs_no_quality_is_defined() -> None:
    for name in METRICS:
        value = METRICS[name].load()(NONE)
        assert value == 0 or math.isnan(value)
        assert METRICS[name].better is None or math.isnan(value)


def test_columns_of_several_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="a value a pair is needed"):
        PAIRS.scored(PAIRS.predictions[:3])


@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("brier", lambda pairs: 0.0, "is no function of a module, which workers import"),
        ("auc", "my_shop.brier:brier", "metric 'auc' is registered already: ctr.components.scoring.pairs.auc"),
        ("Brier", "my_shop.brier:brier", "give a name of small letters"),
    ],
)
def test_what_cannot_be_computed_elsewhere_is_refused(plugins: Path, name: str, target: object, says: str) -> None:
    with pytest.raises(RegistrationError, match=says):
        register_metric(name, target, better="lower")  # type: ignore[arg-type]


def test_a_plugins_metric_stands_behind_the_others(plugins: Path) -> None:
    load_plugins(["my_shop.brier"])
    assert [*METRICS][-1] == "brier"
    assert METRICS["brier"].load()(PAIRS) == pytest.approx((0.01 + 0.04 + 0.36 + 0.36 + 0.25) / 5)


def test_the_page_lists_the_metrics_there_are() -> None:
    page = (ROOT / "docs/gate.md").read_text()
    for name in METRICS:
        assert f"| `{name}` | {METRICS[name].words} | {METRICS[name].better or ''}".rstrip() + " |" in page
    assert page.count("\n| `") == len([*METRICS]) + len(get_args(BoundKind)) + len(ATTRIBUTES)


def test_the_page_lists_the_bounds_and_the_slices_there_are() -> None:
    page = (ROOT / "docs/gate.md").read_text()
    assert all(f"| `{bound}` |" in page for bound in get_args(BoundKind))
    assert all(f"`{field}`" in page for field in Bounds.model_fields)
    for attribute, values in ATTRIBUTES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{attribute}` |"))
        # Of long lists the ends.
        assert all(f"`{value}`" in row for value in (values if len(values) < 10 else (values[0], values[-1])))
    assert all(f"`METRIC@{slice_}`" in page for slice_ in SETS)
    default = AucBounds(min=0.5)
    text = " ".join(page.split())
    assert (
        f"`auc.max` is {default.max}, `auc.max_drop` {default.max_drop} and `auc.min_margin` {default.min_margin}:"
        in text
    )
    assert f"`confidence`, {default.confidence} if nothing else is said" in text
    assert f"`margin_over` is `{default.margin_over}`" in text
    assert f"With fewer than {FEWEST_UNITS} users" in text

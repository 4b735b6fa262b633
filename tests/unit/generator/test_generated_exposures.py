from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctr.components.scoring.auc import auc
from ctr.generator.behavior_log import generate
from ctr.generator.exposures import SHOWN, Exposures, Items, draw_block
from ctr.generator.generator_config import GeneratorConfig
from ctr.models.errors import DataError

CONFIG = GeneratorConfig.model_validate({"users": 1000, "seed": 7, "like": "exposures"})


@pytest.fixture(scope="module")
def block() -> Exposures:
    return draw_block(CONFIG, Items(CONFIG), 0, 1000)


def test_each_part_of_a_click_is_worth_what_is_said(block: Exposures) -> None:
    """The AUC of the probability that clicks are drawn with, and how much of it each part is worth."""
    logit = np.sum(list(block.parts.values()), axis=0)
    whole = auc(block.clicked, logit)
    worth = {name: whole - auc(block.clicked, logit - part) for name, part in block.parts.items()}
    assert whole == pytest.approx(0.84, abs=0.02)
    assert worth["price"] == pytest.approx(0.11, abs=0.01)
    assert worth["taste"] == pytest.approx(0.04, abs=0.01)
    assert worth["brand"] == pytest.approx(0.016, abs=0.008)
    assert worth["position"] == pytest.approx(0.008, abs=0.004)
    assert 0.15 < block.clicked.mean() < 0.3


def test_a_price_is_of_an_item_and_a_day_and_no_column_tells_it(block: Exposures) -> None:
    table = block.table.to_pandas()
    table["day"] = (table["event_time"].dt.tz_convert("Asia/Shanghai")).dt.date
    assert (table.groupby(["item_id", "day"])["price"].nunique() == 1).all()
    spread = np.log(table["price"]).groupby([table["item_id"]]).std().mean()
    assert spread > 0.5
    # Neither the price alone nor the age alone tells much.
    for column in ("price", "age"):
        assert abs(auc(block.clicked, table[column].to_numpy()) - 0.5) < 0.08


def test_a_request_is_of_one_user_and_second_with_its_items_in_order(block: Exposures) -> None:
    requests = block.table.to_pandas().groupby("request_id", sort=False)
    assert (requests[["user_id", "event_time", "device"]].nunique() == 1).all(axis=None)
    assert all(place.tolist() == list(range(1, 1 + len(place))) for _, place in requests["position"])
    assert (requests["item_id"].nunique() == requests.size()).all()
    assert requests.size().max() <= SHOWN[1]


def test_it_is_a_folder_by_day_the_same_for_the_same_seed(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"users": 30})
    made = [generate(config, tmp_path / name) for name in ("a", "b")]
    files = [{p.relative_to(of.path): p.read_bytes() for p in of.path.rglob("*.parquet")} for of in made]
    assert files[0] == files[1]
    assert {path.parts[0][:4] for path in files[0]} == {"day="}
    assert made[0].rows == sum(made[0].behaviors.values())
    with pytest.raises(DataError, match="is there already"):
        generate(config, tmp_path / "a")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]

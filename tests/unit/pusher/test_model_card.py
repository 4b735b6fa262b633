from __future__ import annotations

import pytest
from card_facts import DIGEST, make_facts

from ctr.components.pusher.model_card import render_card
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SETS


def rows(card: str) -> dict[str, list[str]]:
    """First cell of each table's rows -> the others."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    return {first: others for first, *others in cells}


def test_a_card_says_what_was_measured_and_how_surely() -> None:
    card = render_card(make_facts())
    found = rows(card)
    assert card.startswith("# ctr: DIN\n")
    assert found["AUC"] == ["0.8912 [0.8812, 0.9112]"]
    # Of the slice of positives that are new to the user.
    assert found["AUC on items new to the user"] == ["0.8512 [0.8412, 0.8712]"]
    assert found["**this model**"][NEGATIVE_SETS.index(CONTEMPORANEOUS)] == "0.8912 [0.8812, 0.9112]"
    assert found["logistic regression, match features"] == ["+0.0300 [+0.0210, +0.0390]"]
    assert "28,000 pairs of 14,000 impressions, 650 users" in card
    assert "a bootstrap over users, 1,000 resamples" in card
    assert "**Blessed.** There was no blessed model to compare with." in card
    assert "- AUC on contemporaneous negatives is 0.8912, the bound is 0.8670" in card
    assert "Look at this first: Reliability at the top." in card


def test_a_card_says_what_a_score_is_not() -> None:
    card = render_card(make_facts())
    assert "is no click rate" in card
    assert "being chosen where 50% of the candidates are chosen" in card
    assert "a user's last 50 events" in card


def test_a_card_says_where_the_model_comes_from() -> None:
    found = rows(render_card(make_facts()))
    assert found["content"] == [f"`sha256:{DIGEST}`"]
    assert found["log"] == ["`/data/log.csv`, 1 file(s), 2,600,000 bytes"]
    assert found["span"] == ["17503, version 2"]
    assert found["rows"][0].startswith("73,899 read, 73,868 kept")
    assert found["train"] == ["before 2017-11-30 08:00:00 (Asia/Shanghai)"]
    elsewhere = rows(render_card(make_facts().model_copy(update={"zone": "Europe/Berlin"})))
    assert elsewhere["train"] == ["before 2017-11-30 01:00:00 (Europe/Berlin)"]
    assert found["in ML Metadata"] == ["execution 11, model 12, evaluation 14"]
    assert found["pushed by"] == ["ctr-pipeline 0.1.0, commit 0123456789ab"]
    assert found["packages"] == ["tensorflow 2.16.2, numpy 1.26.4"]


@pytest.mark.parametrize(
    ("changes", "there", "not_there"),
    [
        ((), {"model.attention_units", "training.loss.name", "training_negatives.contemporaneous"}, {"model.caser"}),
        (("model.name=caser",), {"model.caser.events", "model.dice.momentum"}, {"model.attention_units"}),
        (("model.activation=mish",), {"model.attention_units"}, {"model.dice", "training.loss.temperature"}),
        (
            ("sampler.name=in_batch", "training.loss.name=sampled_softmax"),
            {"training.loss.temperature", "sampler.negatives"},
            {"sampler.hard"},
        ),
    ],
)
def test_settings_are_those_that_were_read(changes: tuple[str, ...], there: set[str], not_there: set[str]) -> None:
    names = {name.strip("`") for name in rows(render_card(make_facts("sample", *changes)))}
    assert there <= names
    assert [name for name in names if name.startswith(tuple(not_there))] == []


def test_what_a_path_holds_breaks_no_table() -> None:
    facts = make_facts()
    odd = facts.content.model_copy(update={"path": "/data/a|b.csv"})
    card = render_card(facts.model_copy(update={"content": odd}))
    assert rows(card)["log"][0].startswith("`/data/a&#124;b.csv`")

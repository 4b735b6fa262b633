"""Requests of a log whose ids are strings: asked by numbers, answered in strings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ctr.models.string_ids import id_of
from ctr.pipeline.commands import cli, predict
from ctr.serving.impression_files import Asked, Refused, read_impressions
from ctr.serving.impressions import Impression, RankedCandidate, Ranking

SHOP = """\
header: true
columns: {user: u, item: i, category: c, time: t}
ids: {user: string, item: string}
"""
EVENT = {"item_id": "P1", "category_id": 3, "behavior": "pv", "age_seconds": 5}
REQUEST = {"history": [EVENT], "candidates": [{"item_id": "12", "category_id": 3}, {"item_id": "P2", "category_id": 4}]}
CSV = "request,item_id,category_id,behavior,age_seconds\na,P1,3,pv,5\na,12,3,,\na,P2,4,,\n"
FILES = {"one.json": json.dumps(REQUEST), "many.jsonl": json.dumps(REQUEST) + "\n", "rows.csv": CSV}


@pytest.mark.parametrize("name", FILES)
def test_strings_of_each_form_become_numbers(tmp_path: Path, name: str) -> None:
    """A string of digits, too, which without a description is a number."""
    (tmp_path / name).write_text(FILES[name])
    (asked,) = read_impressions(str(tmp_path / name), None, {"item_id"})
    assert isinstance(asked, Asked)
    assert [event.item_id for event in asked.impression.history] == [id_of("P1")]
    found = [(candidate.item_id, candidate.category_id) for candidate in asked.impression.candidates]
    assert found == [(id_of("12"), 3), (id_of("P2"), 4)]
    assert asked.strings == {id_of(each): each for each in ("P1", "12", "P2")}


def test_what_is_no_id_is_named_as_ever(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"history": [], "candidates": [{"item_id": "", "category_id": "x"}, 3]}\n[]\n')
    found = list(read_impressions(str(tmp_path / "bad.jsonl"), None, {"item_id"}))
    assert all(isinstance(each, Refused) for each in found)
    problems = " ".join(problem for each in found if isinstance(each, Refused) for problem in each.problems)
    for said in ("candidates.0.item_id", "candidates.0.category_id", "candidates.1"):
        assert said in problems


class _Client:
    """Answers as a server would that likes each candidate better than the one before."""

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rank_each(self, impressions: Iterable[Impression], _: int) -> Iterator[Ranking]:
        for impression in impressions:
            ranked = [
                RankedCandidate(**candidate.model_dump(), position=place, probability=0.5, logit=float(place))
                for place, candidate in enumerate(impression.candidates)
            ]
            yield Ranking(model_name="ctr", model_version=7, candidates=tuple(reversed(ranked)))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "one.json").write_text(FILES["one.json"])
    monkeypatch.setattr(predict, "_client", lambda *_: _Client())
    monkeypatch.setattr(predict, "_check_reachable", lambda *_: None)
    return "predict", "--impression", str(tmp_path / "one.json"), "--dataset", str(tmp_path / "shop.yaml")


def test_the_answer_has_the_strings_of_the_request(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(each["item_id"], each["category_id"]) for each in answer["candidates"]] == [("P2", 4), ("12", 3)]
    assert cli.main(list(asked)) == 0
    table = capsys.readouterr().out
    assert [line.split()[:3] for line in table.splitlines() if "0.5000" in line] == [["1", "P2", "4"], ["2", "12", "3"]]
    assert str(id_of("P2")) not in table


def test_an_item_to_explain_is_a_string_as_well(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*asked, "--explain", "P3"]) == 1
    assert "candidates: none is item P3, which --explain asks for" in capsys.readouterr().err
    assert cli.main([*asked[:3], "--explain", "P3"]) == 2
    assert "--explain P3: must be the number of an item" in capsys.readouterr().err
    assert cli.main(["predict", "--output", "x", "--dataset", "public"]) == 2
    assert "--dataset is of the ids in --impression FILE" in capsys.readouterr().err

from __future__ import annotations

from pathlib import Path

import pytest
from card_facts import make_evaluation, slice_result

from ctr.components.scoring import reading
from ctr.components.scoring.evaluation import EVALUATION_FILE, Evaluation, Value
from ctr.components.scoring.reading import headline, interval, read_evaluation, read_judged
from ctr.models.impression import CONTEMPORANEOUS


def written(folder: Path, evaluation: Evaluation) -> str:
    (folder / EVALUATION_FILE).write_text(evaluation.model_dump_json(indent=2))
    return str(folder)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    evaluation = make_evaluation()
    assert read_evaluation(written(tmp_path, evaluation)) == evaluation


@pytest.mark.parametrize("beginning", [1, 400, 1500, 4000, 1 << 18])
def test_the_judged_set_is_read_whole_wherever_the_beginning_is_cut(
    beginning: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BEGINNING", beginning)
    evaluation = make_evaluation()
    found = read_judged(written(tmp_path, evaluation))
    assert (found.negative_set, found.result) == (CONTEMPORANEOUS, evaluation.of(CONTEMPORANEOUS))


def test_a_large_evaluation_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = make_evaluation()
    many = tuple(slice_result(CONTEMPORANEOUS, 0.8, f"hour:{hour}") for hour in range(1000))
    folder = written(tmp_path, evaluation.model_copy(update={"slices": (*evaluation.slices, *many)}))
    monkeypatch.delattr(reading, "read_evaluation")
    assert read_judged(folder).result == evaluation.of(CONTEMPORANEOUS)


def test_a_set_that_was_not_evaluated_has_no_result(tmp_path: Path) -> None:
    evaluation = make_evaluation().model_copy(update={"judged_set": "overall"})
    assert read_judged(written(tmp_path, evaluation)) == ("overall", None)
    assert headline(evaluation) == {}


def test_the_headline_takes_new_items_from_their_slice() -> None:
    found = headline(make_evaluation())
    assert list(found) == ["AUC", "AUC on items new to the user", "GAUC", "log loss"]
    assert found["AUC on items new to the user"].value == 0.8512
    assert list(headline(make_evaluation(), "logistic_regression")) == ["AUC", "AUC on items new to the user"]


def test_an_interval_for_a_person() -> None:
    assert interval(Value(value=0.89124, low=0.88, high=0.9)) == "0.8912 [0.8800, 0.9000]"
    assert interval(Value(value=-0.01), "+.3f") == "-0.010"
    assert interval(Value(value=None)) == interval(None) == "-"


def test_where_there_is_none_that_is_said(tmp_path: Path) -> None:
    for read in (read_evaluation, read_judged):
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path))
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path / "gone"))

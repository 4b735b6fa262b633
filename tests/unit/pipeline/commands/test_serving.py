from __future__ import annotations

from pathlib import Path

import pytest

from ctr.pipeline.commands import cli
from ctr.pipeline.commands.serving import ranking_table
from ctr.serving.impressions import RankedCandidate, Ranking


@pytest.mark.parametrize("command", [["serve"], ["predict"]])
def test_an_output_folder_without_a_run_is_1(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--output", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_several_served_models_ask_for_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / "serving" / name).mkdir(parents=True)
    assert cli.main(["serve", "--output", str(tmp_path)]) == 1
    assert "a, b" in capsys.readouterr().err


def test_a_server_may_wait_for_a_model_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ctr.serving.server

    started: list[str] = []
    monkeypatch.setattr(ctr.serving.server, "serve_forever", lambda server: started.append(str(server)))
    serve = ["serve", "--output", str(tmp_path), "--port", "0"]

    assert cli.main([*serve, "--model", "ctr"]) == 1
    assert "--wait lets the server wait" in capsys.readouterr().err
    assert cli.main([*serve, "--wait"]) == 2
    assert "name the model that is to come with --model" in capsys.readouterr().err
    assert started == []
    assert cli.main([*serve, "--model", "ctr", "--wait"]) == 0
    assert started == [f"127.0.0.1:0 for model 'ctr' in {tmp_path}/serving/ctr"]


def test_an_impression_that_is_none_names_its_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "impression.json"
    file.write_text('{"history": [], "candidates": []}')
    assert cli.main(["predict", "--impression", str(file)]) == 1
    assert "candidates" in capsys.readouterr().err


def test_no_server_is_1_and_names_the_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "impression.json"
    file.write_text('{"history": [], "candidates": [{"item_id": 1, "category_id": 2}]}')
    assert cli.main(["predict", "--impression", str(file), "--port", "1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_the_ranking_table_marks_the_chosen_item() -> None:
    candidates = tuple(
        RankedCandidate(item_id=item, category_id=7, position=i, probability=p, logit=1.5)
        for i, (item, p) in enumerate([(5, 0.75), (4, 0.5)])
    )
    table = ranking_table(Ranking(model_name="ctr", model_version=12, candidates=candidates), 50, 4).splitlines()
    assert table[0] == "ctr version 12, history of 50 events"
    assert [line.split() for line in table[2:]] == [
        ["1", "5", "7", "0.7500", "1.500"],
        ["2", "4", "7", "0.5000", "1.500", "<-", "chosen"],
    ]
    assert max(map(len, table)) <= 60
    unmarked = ranking_table(Ranking(model_name="ctr", model_version=12, candidates=candidates), 50).splitlines()
    assert unmarked[2].split() == ["1", "5", "7", "0.7500", "1.500"]

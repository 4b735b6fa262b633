from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ctr.pipeline.commands import cli
from ctr.pipeline.commands.predict import ranking_table
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


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--processes", "0"], "--processes: must be 1 or more, got 0"),
        (["--batch-size", "0"], "batching: size: must be 1 or more, got 0"),
        (["--batch-microseconds", "-1"], "batching: microseconds: must be 0 or more, got -1"),
    ],
)
def test_impossible_limits_are_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert cli.main(["serve", "--output", str(tmp_path), "--port", "0", "--model", "ctr", "--wait", *flags]) == 2
    assert says in capsys.readouterr().err


def test_a_configuration_of_models_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ctr.serving.server

    started: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        ctr.serving.server, "serve_forever", lambda server, *of_file: started.append((str(server), *of_file))
    )
    file = tmp_path / "models.config"
    serve = ["serve", "--port", "0", "--model-config-file", str(file)]

    file.write_text("model_config_list { config { nam: 'a' } }")
    assert cli.main(serve) == 2
    assert f"{file}: no ModelServerConfig of TF Serving: 1:30" in capsys.readouterr().err
    models = [f"config {{ name: '{name}' base_path: '/m/{name}' model_platform: 'tensorflow' }}" for name in "ab"]
    file.write_text(f"model_config_list {{ {' '.join(models)} }}")
    assert cli.main([*serve, "--model", "a"]) == 2
    assert "leave out --model and --wait" in capsys.readouterr().err
    assert started == []
    assert cli.main([*serve, "--model-config-file-poll-seconds", "30"]) == 0
    assert started == [("127.0.0.1:0 for model 'a' in /m/a, 'b' in /m/b", str(file), 30.0)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls-key", "key.pem"], "--tls-certificate and --tls-key go together"),
        (["--tls-client-ca", "ca.pem"], "--tls-client-ca needs both"),
        (["--tls-certificate", "no.pem", "--tls-key", "key.pem"], "TLS: no.pem, key.pem: No such file"),
    ],
)
def test_tls_of_the_server_is_checked_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert cli.main(["serve", "--output", str(tmp_path), "--model", "ctr", "--wait", "--port", "0", *options]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls-certificate", "own.pem"], "--tls-certificate and --tls-key go together, and with --tls-ca"),
        (["--tls-ca", "no.pem"], "TLS: no.pem: cannot be read: No such file"),
    ],
)
def test_tls_of_the_client_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    file = tmp_path / "impression.json"
    file.write_text('{"history": [], "candidates": [{"item_id": 1, "category_id": 2}]}')
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        assert cli.main(["predict", "--impression", str(file), "--port", port, *options]) == 2
    assert says in capsys.readouterr().err


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

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline import cli
from pipeline.config import PipelineConfig, load_preset
from serving.impressions import RankedCandidate, Ranking

COMMANDS = (
    *("run", "sweep", "serve", "predict", "generate", "show-config", "demo"),
    *("clean", "compile", "submit", "schedule", "step", "verdict"),
)
_HEAVY = ("tensorflow", "tfx", "apache_beam", "ml_metadata", "grpc", "numpy")


def _python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd)


def _usage_code(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    return stopped.value.code


def test_help_is_fast_and_names_every_command_and_exit_code() -> None:
    start = time.monotonic()
    done = _python("-m", "pipeline", "--help")
    assert time.monotonic() - start < 5
    assert done.returncode == 0
    for word in (*COMMANDS, "examples:", "exit codes:", "not blessed"):
        assert word in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_teaches_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _usage_code([command, "--help"]) == 0
    assert f"python -m pipeline {command}" in capsys.readouterr().out.split("options:")[1]


def test_examples_in_the_help_parse() -> None:
    examples = []
    for command in ("", *COMMANDS):
        text = _python("-m", "pipeline", *([command] if command else []), "--help").stdout
        examples += [line.strip() for line in text.splitlines() if line.startswith("  python -m pipeline ")]
    assert len(examples) >= 12
    for example in examples:
        arguments = shlex.split(example.removeprefix("python -m pipeline "), comments=True)
        cli._parser().parse_args(arguments)


def test_configuration_loads_nothing_heavy() -> None:
    done = _python(
        "-c",
        "import sys; from pipeline.cli import main; main(['show-config']); "
        f"sys.stderr.write(' '.join(m for m in {_HEAVY!r} if m in sys.modules))",
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_show_config_prints_yaml_that_is_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["show-config", "--preset", "sample", "--set", "training.epochs=2", "--data", "x.csv"])
    assert code == 0
    shown = PipelineConfig.from_json(json.dumps(yaml.safe_load(capsys.readouterr().out)))
    assert shown == load_preset("sample", ["training.epochs=2", "data=x.csv"])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["run", "--dat", "x"],
        ["predict"],
        ["generate"],
        ["serve", "--port", "99999"],
        ["serve", "--port", "x"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _usage_code(arguments) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--data", "x.csv", "--set", "training.epochz=2"], "training.epochz: unknown key"),
        (
            ["run", "--data", "x.csv", "--preset", "nope"],
            "choose one of demo, full, kubeflow, mimn, mimn-corrected, sample",
        ),
        (["run"], "--data"),
        (["run", "--data", "does-not-exist.csv"], "does-not-exist.csv does not exist"),
        (["show-config", "--set", "evaluation.min_auc=2"], "evaluation.min_auc"),
        (["generate", "--output", "x.csv", "--users", "0"], "users: Input should be greater"),
        (["generate", "--output", "x.csv", "--dirt", "mud=3"], "dirt.mud"),
        (["generate", "--output", "x.csv", "--dirt", "duplicate=-1"], "dirt.duplicate"),
        (["generate", "--output", "x.csv", "--dirt", "duplicate"], "KIND=AMOUNT"),
    ],
)
def test_a_wrong_configuration_is_2_and_says_what(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_every_wrong_field_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show-config", "--set", "training.epochs=0", "--set", "model.dropout=7"]) == 2
    printed = capsys.readouterr().err
    assert "training.epochs" in printed
    assert "model.dropout" in printed


def test_a_missing_log_ends_without_a_traceback(tmp_path: Path) -> None:
    done = _python("-m", "pipeline", "run", "--data", str(tmp_path / "missing.csv"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


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
    table = cli.ranking_table(Ranking(model_name="ctr", model_version=12, candidates=candidates), 50, 4).splitlines()
    assert table[0] == "ctr version 12, history of 50 events"
    assert [line.split() for line in table[2:]] == [
        ["1", "5", "7", "0.7500", "1.500"],
        ["2", "4", "7", "0.5000", "1.500", "<-", "chosen"],
    ]


def test_generate_writes_the_asked_log(tmp_path: Path) -> None:
    arguments = ["generate", "--users", "20", "--seed", "5"]
    clean, dirty = tmp_path / "new" / "clean.csv", tmp_path / "dirty.csv"
    assert cli.main([*arguments, "--output", str(clean)]) == 0
    assert cli.main([*arguments, "--output", str(dirty), "--dirt", "duplicate=3", "--crlf"]) == 0
    assert len(dirty.read_bytes().split(b"\r\n")) == len(clean.read_bytes().split(b"\n")) + 3


def test_a_wrong_suffix_is_1_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "--users", "20", "--output", str(tmp_path / "x.txt")]) == 1
    assert "csv" in capsys.readouterr().err

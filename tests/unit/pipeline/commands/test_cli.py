from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline.commands import cli
from pipeline.commands.command_line import program
from pipeline.settings.pipeline_config import PipelineConfig, load_preset
from serving.impressions import RankedCandidate, Ranking

LISTED = (
    *("run", "sweep", "serve", "predict", "generate", "show-config", "clean", "demo"),
    *("compile", "submit", "schedule", "completion"),
)
OF_CONTAINERS = ("step", "verdict")
COMMANDS = (*LISTED, *OF_CONTAINERS)
ROOT = Path(__file__).parents[4]
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
    for word in ("examples:", "exit codes:", "not blessed"):
        assert word in done.stdout
    # What containers run is no choice of a person.
    assert re.findall(r"^    (\S+)", done.stdout, re.MULTILINE) == list(LISTED)


@pytest.mark.parametrize("command", COMMANDS)
def _examples(text: str) -> list[str]:
    after = re.sub(r" \\\n +", " ", text).partition("\nexample")[2].partition("\nexit codes")[0]
    return re.findall(r"^  (?:source <\()?(\S+ -m pipeline .*?)\)?$", after, flags=re.MULTILINE)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_and_its_examples_work_when_pasted(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {}
    for columns in (80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert _usage_code([*([command] if command else []), "--help"]) == 0
        texts[columns] = capsys.readouterr().out
        assert max(map(len, texts[columns].splitlines())) <= columns
    examples = _examples(texts[80])
    assert examples
    assert examples == _examples(texts[200])
    for example in examples:
        python, *rest = shlex.split(example)
        assert os.path.samefile(shutil.which(python) or python, sys.executable)
        assert rest[:2] == ["-m", "pipeline"]
        assert command in ("", rest[2])
        cli._parser().parse_args(rest[2:])


def test_the_program_is_named_as_it_is_called_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(tmp_path)
    assert program() == ".venv/bin/python -m pipeline"
    monkeypatch.chdir("/")
    assert program() == f"{python.relative_to('/')} -m pipeline"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert program() == f"{python} -m pipeline"
    # In an activated environment, and in a container.
    monkeypatch.setenv("PATH", str(python.parent))
    assert program() == "python -m pipeline"


def test_the_version_is_the_projects(tmp_path: Path) -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert done.stdout == f"ctr-pipeline {version}\n"


def test_configuration_loads_nothing_heavy() -> None:
    done = _python(
        "-c",
        "import sys; from pipeline.commands.cli import main; main(['show-config']); "
        f"sys.stderr.write(' '.join(m for m in {_HEAVY!r} if m in sys.modules))",
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_show_config_prints_yaml_that_is_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["show-config", "--preset", "sample", "--set", "training.epochs=2", "--data", "x.csv"])
    assert code == 0
    shown = PipelineConfig.from_json(json.dumps(yaml.safe_load(capsys.readouterr().out)))
    assert shown == load_preset("sample", ["training.epochs=2", "data=x.csv"])


def test_show_config_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show-config", "--preset", "sample", "--set", "training.epochs=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == load_preset("sample", ["training.epochs=2"]).model_dump(mode="json")


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
        ["run", "--data", "x", "-q", "-v"],
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
            "there are demo, full, kubeflow, mimn, mimn-corrected, sample",
        ),
        (["run"], "--data"),
        (["run", "--data", "does-not-exist.csv"], "does-not-exist.csv does not exist"),
        (["run", "--data", "pyproject.toml"], "pyproject.toml is no .csv, .csv.gz or .csv.zip file"),
        (["run", "--data", "x.csv", "--output", "out[1]"], "output: TFX would read the [ as part of a pattern"),
        (
            ["show-config", "--set", "ingest.max_quarantined_share_by_reason.mud=1"],
            "mud is no reason; there are wrong_",
        ),
        (["show-config", "--set", "evaluation.bounds.auc.min=2"], "evaluation.bounds.auc.min"),
        (["generate", "--output", "x.csv", "--users", "0"], "users: must be at least 1 and at most 10,000,000 (got 0)"),
        (["generate", "--output", "x.csv", "--dirt", "mud=3"], "dirt.mud: unknown key; there are negative_timestamp, "),
        (["generate", "--output", "x.csv", "--dirt", "duplicates=3"], "unknown key; did you mean duplicate?"),
        (["generate", "--output", "x.csv", "--dirt", "duplicate=["], "the amount is not a number"),
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


@pytest.mark.parametrize("command", ["run", "sweep"])
@pytest.mark.parametrize(
    ("row", "preset", "says"),
    [
        ("1;2;3;pv;1511544070", "demo", "separated by semicolons"),
        ("1,2,3,pv,1511544070", "demo", "leave nothing for validation and eval"),
        (None, "demo", "transform.min_item_count: no item has 2 events"),
    ],
)
def test_a_log_that_cannot_be_used_is_1_before_anything_heavy_is_imported(
    command: str, row: str | None, preset: str, says: str, tmp_path: Path
) -> None:
    # Each item once: nothing for a vocabulary.
    rows = [row] if row else [f"{1 + i % 20},{10 + i},{1 + i % 4},pv,{1511540000 + 3000 * i}" for i in range(200)]
    log, output = tmp_path / "log.csv", tmp_path / "output"
    log.write_text("".join(f"{each}\n" for each in rows))
    code = (
        "import sys; from pipeline.commands import cli; "
        f"code = cli.main(['{command}', '--preset', '{preset}', '--data', {str(log)!r}, '--output', {str(output)!r}]); "
        f"print(code, [name for name in {_HEAVY[:5]!r} if name in sys.modules])"
    )
    done = _python("-c", code)
    assert done.stdout == "1 []\n"
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()


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
    assert max(map(len, table)) <= 60
    unmarked = cli.ranking_table(Ranking(model_name="ctr", model_version=12, candidates=candidates), 50).splitlines()
    assert unmarked[2].split() == ["1", "5", "7", "0.7500", "1.500"]


def test_generate_writes_the_asked_log(tmp_path: Path) -> None:
    arguments = ["generate", "--users", "20", "--seed", "5"]
    clean, dirty = tmp_path / "new" / "clean.csv", tmp_path / "dirty.csv"
    assert cli.main([*arguments, "--output", str(clean)]) == 0
    assert cli.main([*arguments, "--output", str(dirty), "--dirt", "duplicate=3", "--crlf"]) == 0
    assert len(dirty.read_bytes().split(b"\r\n")) == len(clean.read_bytes().split(b"\n")) + 3


def test_generate_says_as_much_as_it_is_asked_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log.csv"
    arguments = ["generate", "--users", "20", "--output", str(file), "--dirt", "duplicate=3"]
    assert cli.main(arguments) == 0
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Generating a log of 20 users ...\n")
    rows = len(file.read_text().splitlines())
    assert f"{file}: {rows:,} rows of 20 users" in shown.err
    assert cli.main([*arguments, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert cli.main([*arguments, "--quiet", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["path"], document["rows"], document["users"]) == (str(file), rows, 20)
    assert document["dirt"]["duplicate"] == 3


@pytest.mark.parametrize("command", [["run"], ["sweep", "--models", "dnn"], ["demo"]])
@pytest.mark.parametrize("problem", ["is a file, not a folder", "cannot be written to"])
def test_an_output_that_cannot_be_written_is_1(
    command: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("1,2,3,pv,1511658000\n")
    output = log
    if problem.startswith("cannot"):
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        output = tmp_path / "locked"
        output.mkdir(mode=0o500)
    data = [] if command == ["demo"] else ["--data", str(log)]
    assert cli.main([*command, *data, "--output", str(output / "below")]) == 1
    assert problem in capsys.readouterr().err


def test_a_wrong_suffix_is_1_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "--users", "20", "--output", str(tmp_path / "x.txt")]) == 1
    assert "csv" in capsys.readouterr().err

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_names import LISTED

from ctr.pipeline.commands import cli
from ctr.pipeline.commands.container import NAMES

COMMANDS = (*LISTED, *NAMES)


def _usage_code(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    return stopped.value.code


def test_help_is_fast_and_names_every_command_and_exit_code() -> None:
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "ctr", "--help"], capture_output=True, text=True, check=False)
    assert time.monotonic() - start < 5
    assert done.returncode == 0
    for word in ("examples:", "exit codes:", "not blessed"):
        assert word in done.stdout
    # What containers run is no choice of a person.
    assert re.findall(r"^    (\S+)", done.stdout, re.MULTILINE) == list(LISTED)


def _examples(text: str) -> list[str]:
    after = re.sub(r" \\\n +", " ", text).partition("\nexample")[2].partition("\nexit codes")[0]
    return re.findall(r"^  (?:source <\()?(\S+(?:/| -m )ctr .*?)\)?$", after, flags=re.MULTILINE)


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
        script, *rest = shlex.split(example)
        assert os.path.samefile(shutil.which(script) or script, Path(sys.executable).with_name("ctr"))
        assert command in ("", rest[0])
        cli._parser().parse_args(rest)


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
            "there are demo, full, kubeflow, kubeflow-small, mimn, mimn-corrected, sample",
        ),
        (["run"], "--data"),
        (["run", "--data", "does-not-exist.csv"], "does-not-exist.csv does not exist"),
        (["run", "--data", "pyproject.toml"], "pyproject.toml is no .csv, .csv.gz, .csv.zip or .csv.zst file"),
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

"""The script is sourced by bash, and asked as bash asks when the Tab key is pressed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from command_names import LISTED

from ctr.models.validation import setting_names
from ctr.pipeline.commands import cli
from ctr.pipeline.commands.completion import SHELLS
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

BASH = shutil.which("bash") or "bash"
_ASK = r"""
source "$1"
line="$2"
# As readline parts it: at spaces, and = is a word of its own.
read -ra COMP_WORDS <<< "${line//=/ = }"
[[ "$line" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE="$line" COMP_POINT=${#line}
compopt() { echo "compopt $*"; }
name=$(complete -p "${COMP_WORDS[0]##*/}") || exit 9
[[ "$name" =~ -F\ ([^ ]+) ]]
"${BASH_REMATCH[1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "completion.bash"
    with file.open("w") as opened, contextlib.redirect_stdout(opened):
        assert cli.main(["completion", "bash"]) == 0
    return file


def offered(file: Path, line: str) -> list[str]:
    done = subprocess.run([BASH, "-c", _ASK, "bash", str(file), line], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


COMMANDS = [name for name in LISTED if name != "completion"]
ANSWERING = (
    "run",
    "sweep",
    "runs",
    "compare",
    "lineage",
    "predict",
    "release",
    "check-data",
    "generate",
    "show-config",
)


@pytest.mark.parametrize("program", ["ctr", ".venv/bin/ctr", "/opt/venv/bin/ctr"])
def test_commands_are_offered_wherever_the_program_lies(program: str, bash_script: Path) -> None:
    assert offered(bash_script, f"{program} ") == [*COMMANDS, "completion"]
    assert offered(bash_script, f"{program} s") == ["sweep", "serve", "show-config", "submit", "schedule"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run --da", ["--data", "--dataset"]),
        ("run --preset s", ["sample", "samplers"]),
        ("run --set training.ep", ["compopt -o nospace", "training.epochs="]),
        ("run --set model.caser.h", ["compopt -o nospace", "model.caser.horizontal_filters="]),
        ("generate --dirt dup", ["compopt -o nospace", "duplicate="]),
        ("submit --param epo", ["compopt -o nospace", "epochs="]),
        ("compile --target ", ["kfp", "vertex"]),
        ("completion ", ["--help", "--verbose", "--quiet", *SHELLS]),
        # Values of settings, files, and what is no command: left to the shell.
        ("run --set training.epochs=", [""]),
        ("run --set training.epochs=2", [""]),
        ("run --data ", [""]),
        ("predict --impression ", [""]),
        ("nope --", [""]),
    ],
)  # fmt: skip
def test_what_fits_is_offered(line: str, words: list[str], bash_script: Path) -> None:
    assert offered(bash_script, f".venv/bin/ctr {line}") == words


def test_every_option_of_a_listed_command_is_offered(bash_script: Path) -> None:
    for command in COMMANDS:
        words = offered(bash_script, f"ctr {command} --")
        assert {"--help", "--verbose", "--quiet"} <= set(words)
    assert ("--json" in words) == (command in ANSWERING)


def test_every_offered_setting_is_one() -> None:
    names = list(setting_names(PipelineConfig))
    assert len(names) > 80
    values = load_preset("demo").model_dump(mode="json")
    for name in names:
        if name.startswith("evaluation.bounds."):
            # Of each metric, though a preset bounds few of them.
            needed = {"min": "0.5" if ".auc." in name else "null", "margin_over": "best"}
            load_preset("demo", [f"{name}={needed.get(name.rpartition('.')[2], 'null')}"])
            continue
        value = values
        for part in name.split("."):
            # Of a section that is left out, its settings are not there.
            assert value is None or part in value, name
            value = value and value[part]


def test_a_shell_sources_what_the_command_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    done = subprocess.run(
        [BASH, "-c", "source ./script && complete -p ctr"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("_ctr") == 1
    assert done.stderr == ""

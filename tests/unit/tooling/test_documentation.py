"""The documentation is read as a user would: each link is followed, each block has a treatment, and what can run, runs.

A block without a language is a shell block, or one of :data:`SHOWN`. Each command of a shell block goes to the
function of its program in :data:`PROGRAMS`, which checks all that can be checked here: a command of the pipeline is
parsed and its configuration validated, a folder of manifests is built, a file, a target or a module exists. What
finishes within seconds is run as it is written (:data:`RUNS`). A block or a program that is new to this file fails.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Block, blocks, write_presets

from ctr.pipeline.commands.cli import _parser, main
from ctr.pipeline.commands.command_line import configuration
from ctr.pipeline.commands.sweep import chosen_trials
from ctr.pipeline.runners.kubeflow.parameters import with_parameters
from ctr.pipeline.settings.datasets import read_dataset
from ctr.pipeline.settings.pipeline_config import load_preset

CHANGELOG = ROOT / "CHANGELOG.md"
BLOCKS = [block for page in PAGES for block in blocks(page)]

SHOWN = (
    "pipeline ──protos──> ",
    "worker  =  ",
    "[ 1/12] ",
    "configuration:",
    "kubernetes/",
    "components:",
    "<output>/",
    "from ctr.serving.client import RankingClient",
)
"""How blocks begin that show something and are no commands: drawings, formulas, output, files, Python of a client."""
WRONG = ("show-config --set training.epochz=2 --set model.name=dinn --set model.dropout=7",)
"""Shown with the answer that they get."""
NEEDS = {
    "curl": "a running server",
    "docker": "Docker",
    "kind": "Docker",
    "go": "Go, and its modules",
    "export": "nothing but the shell that goes on with it",
    "python3.10": "a package index",
}
"""Programs that cannot run here, and what they need; files that they name must exist."""


def is_shell(block: Block) -> bool:
    return block.language in ("", "bash", "sh") and not block.text.startswith(SHOWN)


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block as lists of words, without variables that are set for one alone."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        # A session: what is typed, and what is answered.
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    found: list[list[str]] = []
    for line in lines:
        # What the shell does with the output is the shell's.
        line = re.sub(r"^source <\((.*)\)$| > \S+$", r"\1", line)
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while re.match(r"[A-Z_]+=", command[0]):
                command = command[1:]
            found.append(command)
    return found


COMMANDS = [(block, command) for block in BLOCKS if is_shell(block) for command in commands(block)]


# --- what is checked of a program's command ------------------------------------------------------------------------


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        module, rest = arguments[1], arguments[2:]
        if module == "cProfile":
            assert rest[:2] == ["-s", "tottime"]
            check_python(rest[2:])
        else:
            check_module(module, rest)
    else:
        assert (ROOT / arguments[0]).is_file(), arguments[0]


def check_ctr(arguments: list[str]) -> None:
    if shlex.join(arguments) in WRONG:
        return
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as end:
        # --help and --version end there, and well.
        if end.code == 0:
            return
        raise
    if getattr(options, "package", None):
        # What 'compile' makes of the preset; its own test compiles it.
        options.preset, options.set = "kubeflow", ["kubeflow.image=registry.example/ctr:1", *options.set]
    if not hasattr(options, "set"):
        return
    config = configuration(options)
    if hasattr(options, "param"):
        with_parameters(config, dict(value.split("=", 1) for value in options.param))
    if arguments[0] == "sweep":
        assert chosen_trials(options, config)


def check_module(module: str, arguments: list[str]) -> None:
    found = importlib.util.find_spec(module)
    assert found is not None, module
    assert found.origin is not None, module
    if module.startswith("benchmarks."):
        source = Path(found.origin).read_text(encoding="utf-8")
        options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
        assert [option for option in options if f'"{option}"' not in source] == []


def check_make(arguments: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [word for word in arguments if "=" not in word and word not in targets] == []


def check_kubectl(arguments: list[str]) -> None:
    folder = next((after for word, after in itertools.pairwise(arguments) if word in FOLDER_OPTIONS), None)
    if folder is None and arguments[0] != "kustomize":
        return  # It needs a cluster.
    kubectl = Path(sysconfig.get_path("scripts"), "kubectl")
    command = [str(kubectl), "kustomize", str(ROOT / (folder or arguments[1]))]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0, command


FOLDER_OPTIONS = ("-k", "--kustomize")


def check_named_files(arguments: list[str]) -> None:
    files = [word for word in arguments if re.fullmatch(r"(benchmarks|docs|image|tests|kubernetes)/\S+", word)]
    assert [file for file in files if not (ROOT / file).exists()] == []
    targets = re.findall(r"^FROM .* AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    given = [after for word, after in itertools.pairwise(arguments) if word == "--target"]
    assert set(given) <= set(targets)


def check_tensorboard(arguments: list[str]) -> None:
    assert Path(sysconfig.get_path("scripts"), "tensorboard").exists()
    # tests/integration/run_report/test_report_executor.py reads what it would show.
    assert arguments[0] == "--logdir"


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "ctr": check_ctr,
    "python": check_python,
    "make": check_make,
    "kubectl": check_kubectl,
    # tests/integration/kubeflow/test_kfp_command_line.py and tests/e2e/local/test_tfx_command_line.py run them.
    **dict.fromkeys(("kfp", "tfx"), check_named_files),
    "pip": check_named_files,
    "tensorboard": check_tensorboard,
    **dict.fromkeys(NEEDS, check_named_files),
}


def program(command: list[str]) -> str:
    """Of a command, wherever its environment lies."""
    return re.sub(r"^(\.venv|peer-[\w.]+)/bin/", "", command[0])


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=lambda value: str(value)[:60])
def test_a_command_is_understood(
    block: Block, command: list[str], plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = program(command)
    monkeypatch.chdir(tmp_path)
    write_presets(tmp_path)
    assert name in PROGRAMS, f"{block}: {name} has no treatment; see PROGRAMS and NEEDS"

    PROGRAMS[name](command[1:])


@pytest.mark.parametrize("block", [block for block in BLOCKS if not is_shell(block)], ids=str)
def test_what_is_shown_is_of_its_kind(block: Block, tmp_path: Path) -> None:
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "python" or block.text.startswith("from "):
        compile(block.text, str(block), "exec")
    elif block.language == "yaml":
        file = tmp_path / "settings.yaml"
        file.write_text(block.text)
        if "\ncolumns:" in block.text:
            read_dataset(str(file))
        else:
            load_preset(str(file))
    else:
        assert block.language in ("", "text"), f"{block}: {block.language} has no treatment"


def test_every_way_to_begin_is_still_shown() -> None:
    assert [text for text in SHOWN if not any(block.text.startswith(text) for block in BLOCKS)] == []


# --- what is run as it is written ----------------------------------------------------------------------------------


def runs_here(command: list[str]) -> bool:
    """Whether a command ends within seconds, asks no server and needs no file of the reader's."""
    if program(command) != "ctr":
        return False
    arguments = command[1:]
    if shlex.join(arguments) in WRONG:
        return False
    if arguments[0] == "generate":
        users = int(arguments[arguments.index("--users") + 1]) if "--users" in arguments else 3000
        return users <= 3000
    return arguments[0] in ("show-config", "completion") or (arguments[0] == "ids" and "--output" not in arguments)


RUNS = [(block, command) for block, command in COMMANDS if runs_here(command)]


@pytest.mark.parametrize(("block", "command"), RUNS, ids=lambda value: str(value)[:60])
def test_what_can_run_here_runs(
    block: Block,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_presets(tmp_path)

    code = main(command[1:])

    said = capsys.readouterr()
    assert code == 0, said.err
    if "--output" in command and command[1] == "generate":
        assert (tmp_path / command[command.index("--output") + 1]).stat().st_size > 0
    else:
        assert said.out


def test_a_command_of_a_folder_builds_and_a_missing_one_fails() -> None:
    check_kubectl(["apply", "-k", "kubernetes/overlays/dev"])
    with pytest.raises(AssertionError):
        check_kubectl(["apply", "-k", "kubernetes/overlays/nosuch"])


@pytest.mark.parametrize(
    "text",
    [
        "ctr rum --data log.csv",
        "ctr run --data log.csv --set training.epochz=2",
        "ctr run --data log.csv --set model.name=nosuch",
        "ctr sweep --data log.csv --models din,nosuch",
        "ctr submit --data /data --param modell=din",
        "python -m benchmarks.ingest --milions 3",
        "python -m benchmarks.nosuch",
        "python benchmarks/nosuch.py",
        "make dmeo",
        "python3.10 -m venv peer && peer-2/bin/pip install -r benchmarks/nosuch.txt",
        "docker build --target nosuch .",
        "docker build --file image/nosuch.Dockerfile .",
        "kubectl kustomize kubernetes/nosuch",
        "terraform apply",
    ],
)
def test_a_wrong_command_would_fail(text: str) -> None:
    def check() -> None:
        for command in commands(Block(ROOT / "README.md", 1, "", text, "")):
            assert program(command) in PROGRAMS
            PROGRAMS[program(command)](command[1:])

    with pytest.raises((AssertionError, SystemExit, ValueError)):
        check()


# --- links and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_them(page: Path) -> None:
    wrong = []
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.*)$", (page.parent / file if file else page).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        wrong += [f"{file}#{anchor}"] if anchor not in anchors else []

    assert wrong == []


def test_every_command_names_the_python_that_make_env_provides() -> None:
    """A bare ``python`` is no program on Debian, and not the one with the packages elsewhere."""
    blocks = {page.name: re.findall(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL) for page in PAGES}
    lines = [(page, line) for page, texts in blocks.items() for text in texts for line in text.splitlines()]

    bare = [(page, line) for page, line in lines if re.match(r"(?:\$ |\w+=\S+ )*python3? ", line)]
    assert len(lines) > 100
    assert bare == []


def test_the_answer_to_a_wrong_setting_is_the_one_shown(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    ((command, answer),) = re.findall(r"^\$ \.venv/bin/ctr ([^\n]*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    assert command in WRONG
    assert main(shlex.split(command)) == 2
    assert capsys.readouterr().err == answer


def test_readme_shows_the_three_uses() -> None:
    shown = {command[1] for block, command in COMMANDS if block.page.name == "README.md" and program(command) == "ctr"}

    assert {"run", "serve", "predict"} <= shown


def test_make_targets_that_pages_name_exist() -> None:
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)}

    assert named
    check_make(sorted(named))


def test_files_that_pages_name_exist() -> None:
    folders = "pipeline|components|models|serving|generator|kubernetes|benchmarks|tests|docs"
    missing = [
        f"{page.name}: {name}"
        for page in PAGES
        for name in re.findall(rf"`((?:{folders})/[\w./-]*\w)/?`", page.read_text(encoding="utf-8"))
        # docs/kubernetes.md also names what lies in kubernetes/ from there.
        if not (ROOT / name).exists() and not (ROOT / page.stem / name).exists()
    ]

    assert missing == []

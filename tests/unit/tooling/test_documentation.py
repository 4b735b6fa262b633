"""The documentation is read as a user would: each link is followed, each command parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipeline.cli import _parser, main
from pipeline.config import load_preset

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(
    r"^(?:\$ )?(?:source <\()?\.venv/bin/python -m pipeline (.*?)\)?(?: > \S+)?(?:\s+#.*)?$", re.MULTILINE
)
WRONG = ("show-config --set training.epochz=2 --set model.name=dinn --set model.dropout=7",)
"""Shown with the answer that they get."""


def commands() -> list[str]:
    return [command for page in PAGES for command in COMMAND.findall(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command: str) -> None:
    if command in ("--help", "run --help"):
        return
    options = _parser().parse_args(shlex.split(command))

    if hasattr(options, "set") and command not in WRONG:
        load_preset(options.preset, options.set)


def test_every_command_names_the_python_that_make_env_provides() -> None:
    """A bare ``python`` is no program on Debian, and not the one with the packages elsewhere."""
    blocks = {page.name: re.findall(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL) for page in PAGES}
    lines = [(page, line) for page, texts in blocks.items() for text in texts for line in text.splitlines()]

    bare = [(page, line) for page, line in lines if re.match(r"(?:\$ |\w+=\S+ )*python3? ", line)]
    assert len(lines) > 100
    assert bare == []


def test_the_answer_to_a_wrong_setting_is_the_one_shown(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    ((command, answer),) = re.findall(
        r"^\$ \.venv/bin/python -m pipeline ([^\n]*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL
    )

    assert command in WRONG
    assert main(shlex.split(command)) == 2
    assert capsys.readouterr().err == answer


def test_readme_shows_the_three_uses() -> None:
    shown = {command.split()[0] for command in COMMAND.findall((ROOT / "README.md").read_text())}

    assert {"run", "serve", "predict"} <= shown


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)}

    assert named
    assert named <= targets

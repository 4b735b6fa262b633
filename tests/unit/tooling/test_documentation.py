"""The documentation is read as a user would: each link is followed, each command parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipeline.cli import _parser
from pipeline.config import load_preset

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:\.venv/bin/)?python -m pipeline (.*?)(?:\s+#.*)?$", re.MULTILINE)


def commands() -> list[str]:
    return [command for page in PAGES for command in COMMAND.findall(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command: str) -> None:
    options = _parser().parse_args(shlex.split(command))

    if hasattr(options, "set"):
        load_preset(options.preset, options.set)


def test_readme_shows_the_three_uses() -> None:
    shown = {command.split()[0] for command in COMMAND.findall((ROOT / "README.md").read_text())}

    assert {"run", "serve", "predict"} <= shown


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)}

    assert named
    assert named <= targets

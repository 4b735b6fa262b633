"""README, CONTRIBUTING and docs/ as their fenced blocks."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^ *```(?P<language>\w*)$")
_FILE = re.compile(r"`([\w/]+\.\w+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
      page: its file.
      line: of its first line of text, counted from 1.
      language: behind the fence; empty for none.
      text: without the fence and its indentation.
      introduction: the last line of text before it.
    """

    page: Path
    line: int
    language: str
    text: str
    introduction: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    language, introduction = "", ""
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            if start is None and line.strip():
                introduction = line
        elif start is None:
            start, language = number + 1, fence["language"]
        else:
            indent = len(line) - len(line.lstrip())
            text = "".join(f"{each[indent:]}\n" for each in lines[start:number])
            found.append(Block(page, start + 1, language, text, introduction))
            start = None
    assert start is None, f"{page}: a block is not closed"
    return found


def write_package(folder: Path) -> None:
    """Writes the Python files of a reader's own that the pages show."""
    for page in PAGES:
        for block in blocks(page):
            files = [name for name in _FILE.findall(block.introduction) if name.startswith("my_")]
            if block.language == "python" and files:
                file = folder / files[-1]
                file.parent.mkdir(exist_ok=True)
                assert not file.exists(), f"{file} is shown twice"
                file.write_text(block.text, encoding="utf-8")


def write_presets(folder: Path) -> None:
    """Writes the presets of a reader's own that the pages show by a file's name."""
    for block in (block for page in PAGES for block in blocks(page) if block.language == "yaml"):
        for name in _FILE.findall(block.introduction):
            (folder / name).write_text(block.text, encoding="utf-8")


def ctr_commands(page: Path) -> list[list[str]]:
    """What a page types after ``ctr``, as lists of words, in their order."""
    lines = [line for block in blocks(page) for line in block.text.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(".venv/bin/ctr ")]

"""Tables of numbers for people: laid out in the width of a terminal, without lines or colour where that is none."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

PROSE_WIDTH: Final = 100
"""Sentences are not wider than this, however wide the terminal is."""
_INDENT: Final = 2


class Table(NamedTuple):
    """A table, and what is to be said under it."""

    title: str
    """Stands above it."""
    header: tuple[str, ...]
    """A name a column; none where there is no table."""
    rows: Sequence[tuple[str, ...]]
    """A label and numbers each; a label may be wrapped, a number is never broken."""
    notes: Sequence[str] = ()
    """Paragraphs."""


def fitting(table: Table, width: int, least: int) -> Table:
    """Without the last columns that do not fit, but with at least so many; a note names those that are left out."""
    widths = [2 + max(map(len, (name, *cells))) for name, *cells in zip(table.header, *table.rows, strict=True)]
    shown = len(table.header)
    while shown > least and sum(widths[:shown]) > width:
        shown -= 1
    out = table.header[shown:]
    notes = [f"Left out, as they do not fit: {', '.join(out)}."] if out else []
    return Table(table.title, table.header[:shown], [row[:shown] for row in table.rows], [*notes, *table.notes])


def laid_out(tables: Iterable[Table], width: int) -> Group:
    """Tables below one another, for :func:`as_text` or a console of the same width."""
    parts: list[RenderableType] = []
    for table in tables:
        parts += [Text(), paragraph(table.title, width, style="bold")]
        if table.rows:
            parts.append(_grid(table, width))
        parts += [paragraph(note, width, _INDENT) for note in table.notes]
    return Group(*parts)


def paragraph(text: str, width: int, indent: int = 0, style: str = "") -> Text:
    """Wrapped words; a word that is wider than the line, such as a path, stays whole."""
    lines = textwrap.wrap(
        text,
        min(width, PROSE_WIDTH),
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + (2 if text.startswith("- ") else 0)),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return Text("\n".join(lines), style=style, no_wrap=True, overflow="ignore")


def as_text(content: RenderableType, width: int, console: Console | None = None) -> str:
    """What a console of this width shows, without spaces at the ends of lines.

    Args:
      content: of rich.
      width: characters in a line.
      console: says which styles may be used; without one, none.
    """
    console = console or Console(color_system=None, force_terminal=False, highlight=False)
    console.width = width
    with console.capture() as captured:
        console.print(content, crop=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def as_number(value: float | None, form: str = ".4f") -> str:
    """A number in this form, a dash for none."""
    return "-" if value is None else format(value, form)


def _grid(table: Table, width: int) -> RenderableType:
    columns = list(zip(table.header, *table.rows, strict=True))
    grid = Grid(box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="dim")
    grid.add_column(Text(table.header[0]), overflow="fold")
    for header, *cells in columns[1:]:
        grid.add_column(Text("\n".join(_stacked(header, cells)), justify="right"), justify="right", no_wrap=True)
    for row in table.rows:
        grid.add_row(*map(Text, row))
    return Padding(grid, (0, 0, 0, _INDENT), expand=False)


def _stacked(header: str, cells: Sequence[str]) -> Iterator[str]:
    """A header in lines that are no wider than the column needs."""
    widest = max(1, *map(len, [*cells, *header.split()]))
    yield from textwrap.wrap(header, widest, break_on_hyphens=False) or [""]

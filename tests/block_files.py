"""Writes a few impressions as Transform does, and reads them row by row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctr.components.examples import blocks


def write_blocks(path: object, rows: Iterable[Mapping[str, Any]], rows_of_a_block: int = blocks.ROWS) -> str:
    """Impressions as feature -> list, or bytes, all with the same features; gives the path."""
    features = features_of(rows)
    with blocks.new_file(str(path), f"{Path(str(path)).parent}-unfinished") as writer:
        for block in blocks.encode(features, rows=rows_of_a_block) if features else ():
            writer.write(block)
    return str(path)


def features_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """Such rows as ``blocks.encode`` takes them."""
    several = list(rows)
    features = {}
    for name in several[0] if several else ():
        values = [[row[name]] if isinstance(row[name], bytes) else list(row[name]) for row in several]
        joined = [value for each in values for value in each]
        features[name] = (np.array([len(each) for each in values]), np.array(joined or np.empty(0, np.int64)))
    return features


def rows_of(folder: Path, pattern: str = "*") -> list[dict[str, Any]]:
    """Impressions of files as :func:`write_blocks` takes them, with all that they hold."""
    files = sorted(map(str, folder.glob(pattern)))
    names = [column.name for column in blocks.layout_of(files).columns]
    return list(first_rows(files, names))


def first_rows(files: Sequence[str], names: Sequence[str], count: int | None = None) -> Iterator[dict[str, Any]]:
    """Of the first so many impressions."""
    return itertools.islice(itertools.chain.from_iterable(map(lists_of, blocks.read(files, names))), count)


def lists_of(features: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a batch."""
    columns = (f.to_list() if hasattr(f, "to_list") else f.numpy().tolist() for f in features.values())
    return [dict(zip(features, row, strict=True)) for row in zip(*columns, strict=True)]

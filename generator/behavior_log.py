"""Generates behaviour logs of any size, seeded, in the format of UserBehavior.csv or of another data set.

The log is made in blocks of users, each from random streams of its own, so that memory does not grow with the
log and blocks do not depend on each other. What users do is in :mod:`ctr.generator.events`, what they choose from in
:mod:`ctr.generator.world`; how the result compares with the real log stands in ``docs/data.md``.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from ctr.generator.dirt import DirtyBlock, add_dirt
from ctr.generator.events import draw_events
from ctr.generator.exposures import write_exposures
from ctr.generator.forms import FORMS
from ctr.generator.generator_config import DIRT_KINDS, DirtConfig, GeneratorConfig
from ctr.generator.world import World
from ctr.models.errors import DataError
from ctr.models.impression import BEHAVIORS

__all__ = ["DirtConfig", "GeneratorConfig", "GeneratorSummary", "generate"]

USERS_PER_BLOCK: Final = 1000
GZIP_LEVEL: Final = 4


@dataclass(frozen=True)
class GeneratorSummary:
    """What was written."""

    path: Path
    users: int
    rows: int
    """Lines of the file."""
    behaviors: dict[str, int]
    """Clean rows by behaviour, as the form names it, or by stars."""
    dirt: dict[str, int]
    """Added rows by kind of dirt; two for each item with two categories."""


def generate(config: GeneratorConfig, path: Path, progress: Callable[[int], None] | None = None) -> GeneratorSummary:
    """Writes a log to ``path``, compressed if it ends in ``.gz``. The file appears when it is complete.

    Users are contiguous and in time order; as reviews, each has a row for an item. See :mod:`ctr.generator.forms`.
    Exposures are a folder: see :mod:`ctr.generator.exposures`.

    Args:
      config: what to generate.
      path: a ``.csv`` or ``.csv.gz`` file (``.json``, ``.json.gz`` of reviews) in an existing folder; replaced if it
        is there.
      progress: called after each block with the number of its users. By default there is a bar where standard
        error is a terminal, and nothing elsewhere.

    Raises:
      DataError: if the path has another suffix, or a folder of that name is there already.
      FileNotFoundError: if the folder does not exist.
    """
    path = Path(path)
    if config.like == "exposures":
        return _generate_exposures(config, path, progress)
    if not path.name.endswith(config.suffixes):
        raise DataError(f"{path}: the log's name must end in {' or '.join(config.suffixes)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; create it first")
    world = World(config)
    form = FORMS.get(config.like)
    kinds = ("", *(form.kinds if form else BEHAVIORS))
    behaviors = np.zeros(len(kinds), np.int64)
    dirt = dict.fromkeys(DIRT_KINDS, 0)
    hide_bar = None if progress is None else True
    with _replacing(path) as file, tqdm(total=config.users, unit=" users", desc=path.name, disable=hide_bar) as bar:
        for first in range(0, config.users, USERS_PER_BLOCK):
            last = min(first + USERS_PER_BLOCK, config.users)
            rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(1, first)))
            drawn = draw_events(world, first, last, config.events_per_user, rng)
            clean = replace(drawn, time=drawn.time + config.delay)
            if form is not None:
                text, kinds_of_rows = form.write(clean, config, first)
                file.write((form.header if first == 0 else "").encode() + text)
                behaviors += np.bincount(kinds_of_rows, minlength=len(behaviors))
                (progress or bar.update)(last - first)
                continue
            block = add_dirt(config, world, clean, first, last)
            file.write(_encoded(block, "\r\n" if config.dirt.crlf else "\n"))
            behaviors += np.bincount(clean.behavior, minlength=len(behaviors))
            for kind, count in block.counts.items():
                dirt[kind] += count
            (progress or bar.update)(last - first)
    by_name = {name: int(count) for name, count in zip(kinds, behaviors, strict=True) if name}
    return GeneratorSummary(path, config.users, int(behaviors.sum()) + sum(dirt.values()), by_name, dirt)


def _generate_exposures(
    config: GeneratorConfig, path: Path, progress: Callable[[int], None] | None
) -> GeneratorSummary:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; create it first")
    rows, clicks = write_exposures(config, path, progress)
    of_kinds = {"clicked": clicks, "not clicked": rows - clicks}
    return GeneratorSummary(path, config.users, rows, of_kinds, dict.fromkeys(DIRT_KINDS, 0))


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of ``path`` at the end, or vanishes after an error."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as raw:
            if path.name.endswith(".gz"):
                # Neither name nor time in the header: the same configuration must give the same bytes.
                with gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as compressed:
                    yield cast("IO[bytes]", compressed)
            else:
                yield raw
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _encoded(block: DirtyBlock, line_end: str) -> memoryview:
    """The block's lines as they stand in the file."""
    events = block.events
    names = pa.array(["", *BEHAVIORS])
    columns = [
        pc.cast(pa.array(events.user), pa.string()),
        pc.cast(pa.array(events.item), pa.string()),
        pc.cast(pa.array(events.category), pa.string()),
        names.take(pa.array(events.behavior)),
        pc.cast(pa.array(events.time), pa.string()),
    ]
    lines = pc.binary_join_element_wise(*columns, ",")
    if len(block.malformed):
        mask = np.zeros(len(events), bool)
        mask[block.malformed] = True
        lines = pc.replace_with_mask(lines, pa.array(mask), pa.array(block.malformed_lines, pa.string()))
    text = pc.binary_join_element_wise(lines, "", line_end)
    _, offsets, data = text.buffers()
    end = int(np.frombuffer(offsets, np.int32)[len(text)])
    return memoryview(data)[:end]

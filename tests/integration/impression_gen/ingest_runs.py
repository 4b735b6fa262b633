"""Runs of the ingest and what they wrote."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from ctr.components.direct_beam import keep_beam_here
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.summary import IngestSummary
from ctr.components.impression_gen.build import run_ingest
from ctr.components.settings import IngestConfig

WINDOW_START = IngestConfig().window[0]


@dataclass(frozen=True)
class Ingested:
    """What one ingest wrote."""

    folder: Path

    @property
    def summary(self) -> IngestSummary:
        return IngestSummary.read(str(self.folder / "catalogue"))

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue.read(str(self.folder / "catalogue"))

    def impressions(self, split: str) -> list[dict[str, list[Any]]]:
        """The features of each impression in the order of the shards."""
        batch = ExamplesToRecordBatchDecoder().DecodeBatch(self.serialized(split))
        # pyarrow's own to_pylist makes a Python object of each value in turn, which takes ten times as long.
        columns = []
        for column in batch.columns:
            values = column.flatten().to_numpy(zero_copy_only=False).tolist()
            ends = column.offsets.to_numpy().tolist()
            columns.append([values[start:end] for start, end in itertools.pairwise(ends)])
        return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]

    def serialized(self, split: str) -> list[bytes]:
        files = sorted(map(str, (self.folder / "examples" / f"Split-{split}").iterdir()))
        batches = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(4096).as_numpy_iterator()
        return [record for batch in batches for record in batch.tolist()]

    def quarantine(self) -> list[list[str]]:
        rows = []
        for path in sorted((self.folder / "quarantine").glob("*")):
            header, *lines = path.read_text().splitlines()
            assert header == "file\tline\treason\tdetail\ttext"
            rows += [line.split("\t") for line in lines]
        return rows

    def files(self, *folders: str) -> dict[str, bytes]:
        """Relative path -> bytes, of what does not name its input."""
        found = {}
        for folder in folders:
            for path in sorted((self.folder / folder).rglob("*")):
                if path.is_file() and path.name != "summary.json":
                    found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found


def ingest_files(files: Sequence[Path], folder: Path, ingest: IngestConfig, *flags: str) -> Ingested:
    """Runs the ingest on this machine; the folders are its own to make."""
    keep_beam_here()
    with beam.Pipeline(options=PipelineOptions(list(flags))) as pipeline:
        run_ingest(
            pipeline,
            [str(f) for f in files],
            ingest,
            str(folder / "examples"),
            str(folder / "catalogue"),
            str(folder / "quarantine"),
        )
    return Ingested(folder)


def random_rows(
    seed: int, rows: int, users: int, items: int, categories: int, seconds: int
) -> list[tuple[int, int, int, str, int]]:
    """A log with ties in time, repeated rows and items of several categories, in no order."""
    draw = random.Random(seed)  # noqa: S311
    log = []
    for _ in range(rows):
        item = min(int(draw.paretovariate(0.6)), items)
        # Of some items alone, the commonest among them: a log is not plausible otherwise.
        category = 1 + (item + (draw.random() < 0.05) * (item % 50 == 1)) % categories
        behavior = draw.choice(("pv", "pv", "pv", "cart", "fav", "buy"))
        log.append((draw.randint(1, users), item, category, behavior, WINDOW_START + draw.randrange(seconds)))
    log += draw.sample(log, rows // 125)
    return log


def as_csv(rows: list[tuple[int, int, int, str, int]]) -> bytes:
    return "".join(f"{u},{i},{c},{b},{t}\n" for u, i, c, b, t in rows).encode()

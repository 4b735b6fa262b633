"""Random impressions with declared features, written as ingest writes them, and through Transform."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import yaml
from google.protobuf import text_format

from ctr.components.counting import CountsConfig
from ctr.components.dataset import DatasetConfig
from ctr.components.examples.catalogue import Catalogue
from ctr.components.schema.impression_schema import Ranges, impression_schema
from ctr.components.settings import IngestConfig
from ctr.models import impression as names

LOG = {"header": True, "columns": {"user": "user", "item": "item", "time": "time"}}
FEATURES = """
price:    {of: item, column: price, type: number, encode: {quantiles: 8}, width: 3, default: 2.5}
brand:    {of: item, column: brand, encode: {vocabulary: {max: 5, min_count: 3}}, used: [candidate]}
tags:     {of: item, column: tags, type: categories, max_values: 3, encode: {hash: 7}}
strength: {of: event, column: dwell_seconds, type: number, encode: {log: true}}
verb:     {of: event, column: verb, encode: {vocabulary: {max: 4}}}
age_band: {of: user, column: age, type: number, encode: {buckets: [18, 25, 35, 50]}}
device:   {of: request, column: device}
hour:     {of: request, computed: hour_of_day}
"""
COUNTS = CountsConfig(item=(3600, "all"), category=(86_400,))
"""Which serving looks up."""
SHOWN = DatasetConfig.model_validate(
    {**LOG, "columns": {**LOG["columns"], "clicked": "clicked", "request": "request", "position": "position"}}  # type: ignore[dict-item]
)
"""A log of exposures with positions, which serving sets to 1."""
HISTORY = 6
WINDOW = (0, 10_000_000)
Rows = list[dict[str, Any]]


def description(features: str = FEATURES) -> DatasetConfig:
    """Of a log that declares these features."""
    return DatasetConfig.model_validate({**LOG, "features": yaml.safe_load(features)})


@contextmanager
def declared(features: str = FEATURES) -> Iterator[None]:
    """Inside, these are the declared features of this process."""
    names.declare_features([*description(features).rows, *COUNTS.rows, *SHOWN.rows])
    try:
        yield
    finally:
        names.declare_features([])


def random_rows(count: int, seed: int = 0) -> Rows:
    """Impressions by hand: feature -> values, ``negative_set`` as bytes."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        of_group = {"history": int(rng.integers(0, HISTORY + 1)), "candidate": 3}
        row: dict[str, Any] = {}
        for name, feature in names.FEATURES.items():
            size = of_group.get(feature.group, 1)
            if feature.served == names.LOOKED_UP:
                row[name] = (rng.zipf(1.3, size) % 5000).tolist()
            elif feature.dtype == "float":
                row[name] = np.round(rng.lognormal(3, 2, size), 2).astype(np.float32).tolist()
            elif feature.declared:
                # 0 is none; some values are negative, some too rare for a vocabulary.
                row[name] = (rng.zipf(1.3, size) % 50 - 3).tolist()
            else:
                row[name] = rng.integers(feature.smallest, min(feature.largest, 30) + 1, size).tolist()
        ages = np.sort(rng.integers(1, 10_000, of_group["history"]))[::-1].tolist()
        row |= {names.USER_ID: [number // 4 + 1], names.TIMESTAMP: [20_000 + 10 * number], names.HISTORY_AGE: ages}
        row |= {names.NEGATIVE_SET: b"mixed", names.LABEL: [1, 0, 0]}
        rows.append(row)
    return rows


def serialized(row: Mapping[str, Any]) -> bytes:
    """As ingest writes it."""
    example = tf.train.Example()
    for name, value in row.items():
        feature = example.features.feature[name]
        kind = names.FEATURES[name].dtype
        if kind == "bytes":
            feature.bytes_list.value.append(value)
        else:
            (feature.float_list if kind == "float" else feature.int64_list).value.extend(value)
    result: bytes = example.SerializeToString()
    return result


def write_raw(folder: Path, splits: Mapping[str, Sequence[Rows]]) -> Path:
    """Split -> the rows of each of its shards."""
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    for split, shards in splits.items():
        (folder / f"Split-{split}").mkdir(parents=True)
        for number, rows in enumerate(shards):
            path = folder / f"Split-{split}" / f"data_tfrecord-{number:05d}-of-{len(shards):05d}.gz"
            with tf.io.TFRecordWriter(str(path), options) as writer:
                for row in rows:
                    writer.write(serialized(row))
    return folder


def run_transform(folder: Path, splits: Mapping[str, Sequence[Rows]]) -> tuple[Path, Path]:
    """Writes raw impressions below a folder and runs the step; its graph, and the transformed impressions."""
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import standard_artifacts

    from ctr.components.artifacts import ImpressionCatalogue
    from ctr.components.transform.component import ImpressionTransformSettings
    from ctr.components.transform.executor import Executor

    items = np.arange(1, 25)
    catalogue = Catalogue(items, items % 6 + 1, items[::-1] + 1, np.arange(1, 7), np.arange(60, 0, -10))
    catalogue.write(str(folder / "catalogue"))
    ranges = Ranges.of(IngestConfig(dataset=description("{}"), history_length=HISTORY))
    (folder / "schema").mkdir()
    (folder / "schema/schema.pbtxt").write_text(text_format.MessageToString(impression_schema(ranges, WINDOW)))
    inputs = {
        "examples": _artifact(standard_artifacts.Examples, write_raw(folder / "raw", splits), splits),
        "schema": _artifact(standard_artifacts.Schema, folder / "schema"),
        "catalogue": _artifact(ImpressionCatalogue, folder / "catalogue"),
    }
    graph, examples = folder / "graph", folder / "examples"
    outputs = {
        "transform_graph": _artifact(standard_artifacts.TransformGraph, graph),
        "transformed_examples": _artifact(standard_artifacts.Examples, examples),
    }
    settings = ImpressionTransformSettings(features=tuple(names.declared_features())).model_dump_json()
    context = BaseBeamExecutor.Context(beam_pipeline_args=[], tmp_dir=str(folder / "tmp"))
    Executor(context).Do(inputs, outputs, {"settings": settings})
    return graph, examples


def _artifact(kind: Any, path: Path, splits: Mapping[str, Any] | None = None) -> list[Any]:
    from tfx.types import artifact_utils

    made = kind()
    made.uri = str(path)
    if splits:
        made.split_names = artifact_utils.encode_split_names(list(splits))
    return [made]

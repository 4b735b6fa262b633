"""Writes impressions as serialized ``tf.train.Example``."""

from __future__ import annotations

import pyarrow as pa
from tfx_bsl.coders import example_coder

from ctr.components.examples.writing import new_shard
from ctr.components.impression_gen.impressions import ImpressionBatch, Impressions


def write_shard(impressions: Impressions, path: str, temporary_folder: str) -> int:
    """Writes one shard.

    Returns:
      the number of impressions.
    """
    with new_shard(path, temporary_folder) as writer:
        for batch in impressions.batches():
            for example in encode(batch):
                writer.write(example)
    return len(impressions.positive)


def encode(batch: ImpressionBatch) -> list[bytes]:
    """The impressions [n] as serialized Examples.

    tfx_bsl's encoder leaves the order of features to a hash map, so that equal rows could differ in bytes. So each
    column is encoded alone, and the Examples of a row's columns stand one after the other: to protobuf, and to
    TensorFlow's own parser, serialized messages in a row are one message with the fields of all.
    """
    contexts, kinds = _joined(_columns(batch.contexts)), _joined(_columns(batch.kinds))
    shared = [[contexts[i] for i in batch.context.tolist()], [kinds[i] for i in batch.kind.tolist()]]
    return _joined([*shared, *_columns(batch.candidates)])


def _columns(batch: pa.RecordBatch) -> list[list[bytes]]:
    singles = (pa.RecordBatch.from_arrays([batch.column(i)], [name]) for i, name in enumerate(batch.schema.names))
    return [example_coder.RecordBatchToExamplesEncoder().encode(single) for single in singles]


def _joined(columns: list[list[bytes]]) -> list[bytes]:
    return list(map(b"".join, zip(*columns, strict=True)))

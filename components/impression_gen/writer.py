"""Writes impressions as serialized ``tf.train.Example`` in gzipped TFRecord files."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder

from components.impression_gen.impressions import Impressions

TEMPORARY_FOLDER = ".incoming"
"""Below the examples' root, beside the splits' folders, whose readers take every file they find."""


def shard_path(examples_uri: str, split: str, shard: int, shards: int) -> str:
    """Where a split's shard lies, named as TFX's own writers name it."""
    return os.path.join(examples_uri, f"Split-{split}", f"data_tfrecord-{shard:05d}-of-{shards:05d}.gz")


def write_shard(impressions: Impressions, path: str, examples_uri: str) -> int:
    """Writes one shard under another name and renames it, so that a retried write does no harm.

    Returns:
      the number of impressions.
    """
    temporary = os.path.join(examples_uri, TEMPORARY_FOLDER, uuid.uuid4().hex)
    tf.io.gfile.makedirs(os.path.dirname(temporary))
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(temporary, options=tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for batch in impressions.batches():
            for example in encode(batch):
                writer.write(example)
    tf.io.gfile.rename(temporary, path, overwrite=True)
    return len(impressions.positive)


def remove_temporary_files(examples_uri: str) -> None:
    """Removes what failed attempts left."""
    folder = os.path.join(examples_uri, TEMPORARY_FOLDER)
    if tf.io.gfile.exists(folder):
        tf.io.gfile.rmtree(folder)


def encode(batch: pa.RecordBatch) -> Iterator[bytes]:
    """Yields each row [n] as a serialized Example with the features in the order of the columns.

    tfx_bsl's encoder leaves the order of features to a hash map, so equal rows can differ in bytes. Each
    column is therefore encoded alone and the features of a row are joined here.
    """
    columns = []
    for i, name in enumerate(batch.schema.names):
        single = pa.RecordBatch.from_arrays([batch.column(i)], [name])
        columns.append(example_coder.RecordBatchToExamplesEncoder().encode(single))
    for row in zip(*columns, strict=True):
        features = b"".join([_features(example) for example in row])
        yield b"\n" + _varint(len(features)) + features


def _features(example: bytes) -> bytes:
    """The content of field 1 of an Example that has nothing else."""
    start = 1
    while example[start] & 0x80:
        start += 1
    return example[start + 1 :]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

"""How impressions are encoded, and how a shard of them is written: gzipped TFRecord, whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder

EXAMPLES_FILE_FORMAT: Final = "tfrecords_gzip"
"""As TFX names it."""

# A tenth more bytes than zlib's default level 6, in less than half the time: docs/ingest.md has the measurements.
_OPTIONS: Final = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)


@contextmanager
def new_shard(path: str, temporary_folder: str) -> Iterator[tf.io.TFRecordWriter]:
    """Opens a shard under another name and renames it when the block ends well: so a retried write does no harm."""
    temporary = os.path.join(temporary_folder, f"shard-{uuid.uuid4().hex}")
    tf.io.gfile.makedirs(temporary_folder)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(temporary, options=_OPTIONS) as writer:
        yield writer
    tf.io.gfile.rename(temporary, path, overwrite=True)


def encoded(batch: pa.RecordBatch) -> list[list[bytes]]:
    """Each column's serialized Examples of that feature alone; :func:`joined` makes whole ones of them.

    tfx_bsl's encoder leaves the order of features to a hash map, so that equal rows could differ in bytes.
    """
    singles = (pa.RecordBatch.from_arrays([batch.column(i)], [name]) for i, name in enumerate(batch.schema.names))
    return [example_coder.RecordBatchToExamplesEncoder().encode(single) for single in singles]


def joined(columns: list[list[bytes]]) -> list[bytes]:
    """Columns of [n] Examples, one after the other: to protobuf, and to TensorFlow's own parser, serialized messages in
    a row are one message with the fields of all."""
    return list(map(b"".join, zip(*columns, strict=True)))

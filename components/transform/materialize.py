"""Writes transformed impressions: each raw one with its index features behind it.

TFX's own materialisation decodes and encodes every feature of every impression. Here the bytes of an impression stay,
and what the transform graph adds is appended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.metrics import Metrics

from ctr.components.examples.writing import encoded, joined, new_shard
from ctr.models.impression import INDEX_OF

_IMPRESSIONS_OF_A_BATCH: Final = 4096


class TransformShard(beam.DoFn):
    """(raw shard, where the transformed one goes) -> impressions written.

    Args:
      graph_uri: of the Transform step.
      temporary_folder: for shards that are being written.
    """

    def __init__(self, graph_uri: str, temporary_folder: str) -> None:
        self._graph_uri = graph_uri
        self._temporary_folder = temporary_folder
        self._written = Metrics.counter("transform", "impressions")

    def setup(self) -> None:
        """Loads the transform graph, once in each worker."""
        layer = tft.TFTransformOutput(self._graph_uri).transform_features_layer()
        spec = {name: tf.io.VarLenFeature(tf.int64) for name in INDEX_OF}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def indices(serialized: tf.Tensor) -> dict[str, tf.RaggedTensor]:
            transformed = layer(tf.io.parse_example(serialized, spec))
            return {name: tf.RaggedTensor.from_sparse(transformed[name]) for name in INDEX_OF.values()}

        self._indices = indices

    def process(self, paths: tuple[str, str]) -> Iterator[int]:
        """Transforms one shard."""
        raw, transformed = paths
        count = 0
        with new_shard(transformed, self._temporary_folder) as writer:
            batches = tf.data.TFRecordDataset(raw, compression_type="GZIP").batch(_IMPRESSIONS_OF_A_BATCH)
            for serialized in batches.prefetch(1):
                rows = serialized.numpy().tolist()
                for example in joined([rows, *encoded(_batch(self._indices(serialized)))]):
                    writer.write(example)
                count += len(rows)
        self._written.inc(count)
        yield count


def _batch(features: Mapping[str, tf.RaggedTensor]) -> pa.RecordBatch:
    """[B] lists of each feature."""
    parts = [(pa.array(f.row_splits.numpy().astype(np.int32)), pa.array(f.values.numpy())) for f in features.values()]
    return pa.RecordBatch.from_arrays([pa.ListArray.from_arrays(*part) for part in parts], list(features))

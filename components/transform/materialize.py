"""Writes transformed impressions, in blocks: the raw ones with the indices of their ids.

TFX's own materialisation decodes and encodes every feature of every impression. Here what impressions have in common is
found first, and each event of a history is looked up once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.metrics import Metrics

from ctr.components.examples import blocks
from ctr.components.examples.impressions import dtype_of, parse, records
from ctr.models.arrays import Array
from ctr.models.errors import DataError
from ctr.models.impression import (
    FEATURES,
    INDEX_OF,
    declare_features,
    declared_features,
    feature_modules,
    from_plain,
)
from ctr.models.registration import load_plugins

_BLOCKS_OF_A_BATCH: Final = 8


class TransformShard(beam.DoFn):
    """(raw shard, where the transformed one goes) -> impressions written.

    Args:
      graph_uri: of the Transform step.
      temporary_folder: for shards that are being written.
    """

    def __init__(self, graph_uri: str, temporary_folder: str) -> None:
        self._graph_uri = graph_uri
        self._temporary_folder = temporary_folder
        self._plugins = feature_modules()
        self._declared = declared_features()
        self._written = Metrics.counter("transform", "impressions")

    def setup(self) -> None:
        """Loads the transform graph, once in each worker, and makes the table of features what it is here."""
        load_plugins(self._plugins)
        declare_features(map(from_plain, self._declared))
        layer = tft.TFTransformOutput(self._graph_uri).transform_features_layer()

        @tf.function(
            input_signature=[{name: tf.TensorSpec([None], dtype_of(name)) for name in INDEX_OF}], autograph=False
        )
        def indices(ids: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            transformed = layer({name: _one_a_row(values) for name, values in ids.items()})
            return {name: transformed[name].values for name in INDEX_OF.values()}

        self._indices = indices
        # Traced once, and not for each shard.
        self._parse = tf.function(
            lambda serialized: parse(serialized, FEATURES),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )

    def process(self, paths: tuple[str, str]) -> Iterator[int]:
        """Transforms one shard.

        Raises:
          DataError: if an impression cannot be what ingest wrote; the message names the shard.
        """
        raw, transformed = paths
        count = 0
        with blocks.new_file(transformed, self._temporary_folder) as writer:
            for serialized in records([raw]).batch(blocks.ROWS * _BLOCKS_OF_A_BATCH).prefetch(1):
                features = blocks.lists(self._parse(serialized))
                try:
                    for block in blocks.encode(features, self._of_values):
                        writer.write(block)
                except DataError as error:
                    raise DataError(f"{raw}: {error}") from error
                count += len(next(iter(features.values()))[0])
        self._written.inc(count)
        yield count

    def _of_values(self, stored: dict[str, Array]) -> dict[str, Array]:
        indices = self._indices({name: tf.constant(stored[name], dtype_of(name)) for name in INDEX_OF})
        return {name: each.numpy() for name, each in indices.items()}


def _one_a_row(values: tf.Tensor) -> tf.SparseTensor:
    size = tf.size(values, tf.int64)
    places = tf.stack([tf.range(size), tf.zeros([size], tf.int64)], axis=1)
    return tf.SparseTensor(places, values, tf.stack([size, 1]))

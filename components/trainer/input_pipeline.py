"""Transformed impressions to the dense tensors that a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import tensorflow as tf

from ctr.components.examples.impressions import COMPRESSION, parse
from ctr.models.errors import DataError
from ctr.models.impression import CANDIDATE_INPUTS, HISTORY_INPUTS, LABEL, MODEL_INPUTS, USER_ID

Batch: TypeAlias = "tuple[dict[str, tf.Tensor], tf.Tensor]"


def to_model_inputs(features: Mapping[str, tf.RaggedTensor], history_length: int) -> dict[str, tf.Tensor]:
    """The one way from transformed features to a model's inputs, in training and in serving.

    Args:
      features: [B, ?] int64, at least ``ctr.models.impression.MODEL_INPUTS``.
      history_length: L; of a longer history the latest L events are kept.

    Returns:
      [B, L] int64 histories, oldest first, and [B, N] int64 candidates, N the longest in the batch, each
      right-padded with 0.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs, if the lists of a history, or of the candidates,
        differ in length.
    """
    checks = [*equal_lengths(features, HISTORY_INPUTS), *equal_lengths(features, CANDIDATE_INPUTS)]
    with tf.control_dependencies(checks):
        shape = [None, history_length]
        history = {name: features[name][:, -history_length:].to_tensor(shape=shape) for name in HISTORY_INPUTS}
        candidates = {name: features[name].to_tensor() for name in CANDIDATE_INPUTS}
    return history | candidates


def equal_lengths(ragged: Mapping[str, tf.RaggedTensor], names: Sequence[str]) -> list[tf.Operation | None]:
    """Checks that the lists of an impression have one length; they fail with INVALID_ARGUMENT when the graph runs."""
    first = names[0]
    return [
        tf.debugging.assert_equal(
            ragged[name].row_lengths(),
            ragged[first].row_lengths(),
            message=f"{name} and {first} must have the same number of values in each impression",
        )
        for name in names[1:]
        if ragged[name].row_splits is not ragged[first].row_splits
    ]


def read_batches(
    files: Sequence[str],
    *,
    batch_size: int,
    history_length: int,
    shuffle_buffer: int | None = None,
    seed: int | None = None,
    limit: int | None = None,
) -> tf.data.Dataset:
    """Batches of (inputs of :func:`to_model_inputs` and user ids [B, 1], labels [B, N] float32) from TFRecord gzip.

    Args:
      files: transformed examples.
      batch_size: impressions of a batch; the last one is filled with padding impressions (all ids 0), so that
        every step on every replica has the same shape.
      history_length: L.
      shuffle_buffer: impressions to draw from, for training; None keeps the order of the files.
      seed: of the shuffling, which differs from epoch to epoch.
      limit: read at most so many impressions.

    Raises:
      DataError: if there is no file.
    """
    if not files:
        raise DataError("no transformed examples to read: the split has no files")
    names = tf.data.Dataset.from_tensor_slices(sorted(files))
    if shuffle_buffer:
        names = names.shuffle(len(files), seed=seed)
    records = names.interleave(
        lambda name: tf.data.TFRecordDataset(name, COMPRESSION),
        cycle_length=min(len(files), 8) if shuffle_buffer else 1,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    if limit:
        records = records.take(limit)
    if shuffle_buffer:
        records = records.shuffle(shuffle_buffer, seed=seed)

    def model_inputs(serialized: tf.Tensor) -> Batch:
        features = parse(serialized, (*MODEL_INPUTS, LABEL, USER_ID))
        labels = tf.cast(features[LABEL].to_tensor(), tf.float32)
        inputs = to_model_inputs(features, history_length)
        inputs[USER_ID] = features[USER_ID]
        batch: Batch = tf.nest.map_structure(fill, (inputs, labels))
        return batch

    def fill(tensor: tf.Tensor) -> tf.Tensor:
        missing = batch_size - tf.shape(tensor)[0]
        return tf.ensure_shape(tf.pad(tensor, [[0, missing], [0, 0]]), [batch_size, tensor.shape[1]])

    # One record at a time parses at a tenth of the speed: batch first.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return (
        records.batch(batch_size)
        .map(model_inputs, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )

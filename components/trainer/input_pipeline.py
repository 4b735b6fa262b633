"""Transformed impressions to the dense tensors that a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import tensorflow as tf

from ctr.components.examples import blocks
from ctr.models.errors import DataError
from ctr.models.impression import CANDIDATE_INPUTS, CONTEXT_INPUTS, HISTORY_INPUTS, LABEL, MODEL_INPUTS, USER_ID

Batch: TypeAlias = "tuple[dict[str, tf.Tensor], tf.Tensor]"

_FILES_AT_ONCE: Final = 16
_WINDOWS_AT_ONCE: Final = 4
_ROWS_AT_ONCE: Final = 8192
"""Of a window where nothing is shuffled."""


def to_model_inputs(features: Mapping[str, tf.RaggedTensor], history_length: int) -> dict[str, tf.Tensor]:
    """The one way from transformed features to a model's inputs, in training and in serving.

    Args:
      features: [B, ?] int64, at least ``ctr.models.impression.MODEL_INPUTS``.
      history_length: L; of a longer history the latest L events are kept.

    Returns:
      [B, L] int64 histories, oldest first, and [B, N] int64 candidates, N the longest in the batch, each
      right-padded with 0; and what is the impression's own, [B, 1] int64.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs, if the lists of a history, or of the candidates,
        differ in length.
    """
    checks = [*equal_lengths(features, HISTORY_INPUTS), *equal_lengths(features, CANDIDATE_INPUTS)]
    with tf.control_dependencies(checks):
        shape = [None, history_length]
        history = {name: features[name][:, -history_length:].to_tensor(shape=shape) for name in HISTORY_INPUTS}
        candidates = {name: features[name].to_tensor() for name in CANDIDATE_INPUTS}
        own = {name: features[name].to_tensor(shape=[None, 1]) for name in CONTEXT_INPUTS}
    return history | candidates | own


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
    seed: int = 0,
    limit: int | None = None,
    candidates: int | None = None,
) -> tf.data.Dataset:
    """Batches of (inputs as :func:`to_model_inputs` gives them and user ids [B, 1], labels [B, N] float32).

    Shuffled, the files are read in random order, several at a time, their blocks are shuffled, and the impressions of
    a window of blocks. What does not fill a batch at the end of a window goes into the next one.

    Args:
      files: transformed examples.
      batch_size: impressions of a batch; the last one is filled with padding impressions (all ids 0), so that
        every step on every replica has the same shape.
      history_length: L.
      shuffle_buffer: impressions of a window, for training; None keeps the order of the files.
      seed: of the shuffling. A further pass over the same batches has the same order; another epoch takes another seed.
      limit: read at most so many impressions.
      candidates: N, for a static shape; None takes the most in the batch.

    Raises:
      DataError: if there is no file, or the first one holds something else. What is damaged further on is found when
        it is read: wrap that in :func:`ctr.components.examples.blocks.damage_named`.
    """
    if not files:
        raise DataError("no transformed examples to read: the split has no files")
    names = (*MODEL_INPUTS, LABEL, USER_ID)
    reader = blocks.reader_of(files, names)
    shards = tf.data.Dataset.from_tensor_slices(sorted(files))
    if shuffle_buffer:
        shards = shards.shuffle(len(files), seed=seed, reshuffle_each_iteration=False)
    stored = shards.interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(len(files), _FILES_AT_ONCE) if shuffle_buffer else 1,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    of_window = -(-(shuffle_buffer or _ROWS_AT_ONCE) // blocks.ROWS)
    if shuffle_buffer:
        stored = stored.shuffle(of_window, seed=seed, reshuffle_each_iteration=False)
    # An empty window ends the data.
    nothing = tf.data.Dataset.from_tensors((tf.zeros([0, 3], tf.int32), tf.zeros([0], tf.string)))
    windows = (
        stored.map(reader.opened, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(of_window)
        .concatenate(nothing)
        .map(reader.table, num_parallel_calls=_WINDOWS_AT_ONCE, deterministic=True)
    )
    seeds = tf.data.Dataset.random(seed=seed).batch(2)
    # The last rows of a table, so many: of the windows up to there they are what does not fill a batch.
    LeftOver: TypeAlias = "tuple[blocks.Table, tf.Tensor]"

    def follow(before: LeftOver, window: blocks.Table) -> tuple[LeftOver, tuple[LeftOver, blocks.Table, tf.Tensor]]:
        """What is left over behind a window; and for ``whole`` what was before it, the window, and how many rows are
        left over of both. Windows come here one by one, so rows are copied in ``whole``, unless they fill no batch."""
        table, count = before
        new = blocks.row_count(window)
        left = tf.where(new == 0, 0, (count + new) % batch_size)
        behind = tf.cond(left <= new, lambda: window, lambda: blocks.joined(blocks.last_rows(table, count), window))
        return (behind, left), (before, window, left)

    def whole(of: tuple[LeftOver, blocks.Table, tf.Tensor], random: tf.Tensor) -> tuple[blocks.Table, tf.Tensor]:
        """A table behind a row of padding, and which of its rows fill batches, [batches, B]."""
        (before, count), window, left = of
        table = blocks.joined(blocks.last_rows(before, count), window, padding=True)
        picked = tf.range(1, blocks.row_count(table) - left)
        if shuffle_buffer:
            picked = tf.random.experimental.stateless_shuffle(picked, random)
        filled = tf.pad(picked, [[0, -tf.size(picked) % batch_size]])
        return table, tf.reshape(filled, [-1, batch_size])

    def batch(number: tf.Tensor, of: tuple[blocks.Table, tf.Tensor]) -> Batch:
        table, rows = of
        rows = tf.ensure_shape(rows, [batch_size])
        if limit:
            rows = tf.where(number * batch_size + tf.range(batch_size, dtype=tf.int64) < limit, rows, 0)
        inputs = reader.dense(table, rows, history_length, candidates)
        labels = tf.cast(inputs.pop(LABEL), tf.float32)
        return {name: inputs[name] for name in (*MODEL_INPUTS, USER_ID)}, labels

    batches = (
        tf.data.Dataset.zip((windows.scan((reader.no_rows(), 0), follow), seeds))
        .map(whole, num_parallel_calls=_WINDOWS_AT_ONCE, deterministic=True)
        .flat_map(lambda table, rows: tf.data.Dataset.from_tensor_slices(rows).map(lambda each: (table, each)))
        .enumerate()
    )
    if limit:
        batches = batches.take(-(-limit // batch_size))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return (
        batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )

"""Negatives that are other rows' positives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from ctr.models.impression import CANDIDATE_INPUTS, CANDIDATE_ITEM_ID, PADDING_ID
from ctr.models.layers.draws import uniform
from ctr.models.samplers import base
from ctr.models.samplers.hashing import pair_key
from ctr.models.samplers.lookup import find


class Columns(NamedTuple):
    """In-batch columns of a replica's rows."""

    features: Mapping[str, tf.Tensor]
    """[B, K]"""
    mask: tf.Tensor
    """[B, K] bool: false where the batch is too small, and where the user did something with the item."""
    drawn: tf.Tensor
    """Scalar float32: columns of each row before masking, K but for a small last batch."""
    positives: tf.Tensor
    """[G] int64: the positives of the global batch, which they were drawn from; padding is 0."""


class BatchColumns:
    """Draws columns from the positives of the *global* batch, which are gathered from all replicas.

    A model with target attention cannot score all B x B pairs, so each row gets K columns. The rows stand in a circle,
    padding left out, and K distinct distances are drawn for a step: every row takes the positives of the rows that
    stand so far behind it. So a row never takes itself, takes no row twice, and each of its columns is a draw from the
    positives.
    """

    def __init__(self, window: base.TrainingWindow, seed: int) -> None:
        self._seed = seed
        # In a plain object, which a checkpoint does not look into: it is known again from the data.
        self._own_keys = tf.Variable(window.own_keys, trainable=False, name="own_keys")

    def draw(self, step: base.TrainingStep, count: int) -> Columns:
        """K columns for each row of this replica; in a replica's context.

        Args:
          step: its impressions have the positive first; its number, with the seed, decides the draw.
          count: K.
        """
        positives, row = gather_positives(step.impression)
        items = positives[:, CANDIDATE_INPUTS.index(CANDIDATE_ITEM_ID)]
        real = items != PADDING_ID
        rows = tf.reduce_sum(tf.cast(real, tf.int64))
        places = tf.argsort(tf.where(real, 0, 1), stable=True)
        rank = tf.gather(tf.cumsum(tf.cast(real, tf.int64)) - 1, row)

        keys = uniform([tf.shape(positives)[0] - 1], tf.stack([tf.cast(self._seed, tf.int64), step.number]))
        keys = tf.where(tf.range(tf.size(keys, tf.int64)) < rows - 1, keys, -1.0)
        chosen, distance = tf.math.top_k(keys, count)
        enough = chosen >= 0
        column = (rank[:, None] + 1 + tf.cast(distance, tf.int64)) % tf.maximum(rows, 1)
        picked = tf.gather(positives, tf.gather(places, column))
        features = {name: picked[..., number] for number, name in enumerate(CANDIDATE_INPUTS)}
        mask = enough & base.is_real(step.columns(base.POSITIVE)) & ~self._own(step.user, features[CANDIDATE_ITEM_ID])
        return Columns(features, mask, tf.reduce_sum(tf.cast(enough, tf.float32)), items)

    def _own(self, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        _, known = find(tf.convert_to_tensor(self._own_keys), pair_key(user[:, None], item))
        return known


def gather_positives(impression: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The first candidates of the global batch, and which rows of it are this replica's.

    Returns:
      [G, F] int64 in the order of the replicas, F as :data:`ctr.models.impression.CANDIDATE_INPUTS`, and [B] int64
      positions.
    """
    context = tf.distribute.get_replica_context()
    local = tf.stack([impression[name][:, 0] for name in CANDIDATE_INPUTS], axis=1)
    if context.num_replicas_in_sync == 1:
        return local, tf.range(tf.shape(local, tf.int64)[0])
    # Replicas need not have equally many rows.
    sizes = context.all_gather(tf.shape(local, tf.int64)[:1], axis=0)
    first = tf.cumsum(sizes, exclusive=True)[context.replica_id_in_sync_group]
    return context.all_gather(local, axis=0), first + tf.range(tf.shape(local, tf.int64)[0])


def log_multiplicity(multiplicity: tf.Tensor) -> tf.Tensor:
    """log Q, finite where nothing was drawn: such a column is masked. No real item comes near the bound."""
    return tf.math.log(tf.maximum(multiplicity, 1e-30))

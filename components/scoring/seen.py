"""Whether an impression's positive is new to its user.

Negatives other than revisits are drawn outside the user's own log, but users come back to items: so a candidate that
stands in the history is a positive by construction, and every AUC is given on the impressions whose positive is new,
too. *Seen* means seen in the history as stored, the user's last L events before the impression: that is all that a
model, or a baseline, can know of it.
"""

from __future__ import annotations

import tensorflow as tf

from ctr.models.layers.match import item_seen


def positive_is_new(history_item_id: tf.Tensor, candidate_item_id: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Whether no positive of the impression stands in its history; True without a positive, too.

    Args:
      history_item_id: [B, T] int64, padded with 0.
      candidate_item_id: [B, N] int64, padded with 0.
      label: [B, N], 1 for a positive.

    Returns:
      [B] bool.
    """
    return ~tf.reduce_any(item_seen(history_item_id, candidate_item_id) & (label > 0), axis=1)

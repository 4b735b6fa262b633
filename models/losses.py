"""Losses: what joins logits and labels."""

from __future__ import annotations

import tensorflow as tf

from ctr.models.samplers.base import Sampled
from ctr.models.samplers.sampler_config import LossConfig


def training_loss(config: LossConfig, logits: tf.Tensor, candidates: Sampled) -> tuple[tf.Tensor, tf.Tensor]:
    """The configured loss.

    Args:
      config: which one.
      logits: [B, 1 + K] float32 of the candidates.
      candidates: what a sampler drew.

    Returns:
      Its sum and what a mean is to be taken over, pairs or impressions: float32 scalars, so that a mean over several
      replicas can be taken exactly.

    Raises:
      ValueError: for a softmax over candidates whose log Q is not known.
    """
    if config.name == "pointwise":
        return pointwise_cross_entropy(logits, candidates.labels, candidates.mask)
    log_q = candidates.log_q if config.correction else tf.zeros_like(logits)
    if log_q is None:
        raise ValueError(
            "sampled_softmax needs a sampler that knows log Q; see ctr.models.samplers.sampler_config.require_pair"
        )
    if config.positive == "certain":
        log_q = tf.concat([tf.zeros_like(log_q[:, :1]), log_q[:, 1:]], axis=1)
    return sampled_softmax(logits / config.temperature - log_q, _of_one_positive(candidates))


def counted(config: LossConfig, candidates: Sampled) -> tf.Tensor:
    """What the mean of the configured loss is taken over, known before any logit; see :func:`training_loss`."""
    mask = candidates.mask if config.name == "pointwise" else _of_one_positive(candidates)[:, 0]
    return tf.reduce_sum(tf.cast(mask, tf.float32))


def _of_one_positive(candidates: Sampled) -> tf.Tensor:
    """The mask of a softmax, [B, 1 + K] bool: of what was clicked the first alone, and no row where nothing was."""
    clicked = candidates.labels > 0
    others = tf.concat([tf.zeros_like(clicked[:, :1]), clicked[:, 1:]], axis=1)
    return candidates.mask & clicked[:, :1] & ~others


def pointwise_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, real: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Binary cross-entropy of every pair.

    Args:
      logits: [B, N] float32.
      labels: [B, N] float32, 0 or 1.
      real: [B, N] bool, false for padding candidates and masked columns.

    Returns:
      The sum over real pairs and their number, float32 scalars.
    """
    weight = tf.cast(real, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    # A padding candidate's logit has no meaning and may not be finite.
    return tf.reduce_sum(tf.where(real, losses, 0.0)), tf.reduce_sum(weight)


def sampled_softmax(corrected: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross-entropy of a softmax over each row, whose positive stands first (Bengio and Senecal 2008).

    With the correction s / tau - log Q on every column (Yi et al., RecSys 2019, equation 3), Q the expected number of
    times that the item is in the row, the row's denominator estimates that over the whole catalogue. The positive is in
    its row with certainty: with log Q = 0 there, the gradient is that of arXiv 2507.09331, which weighs a row by the
    model's probability of an error: 1 - P times the gradient of log(sum over negatives of exp(s - log Q)) - s of the
    positive.

    Args:
      corrected: [B, 1 + K] float32 logits, corrected.
      mask: [B, 1 + K] bool; a masked column has no part in the softmax, a row without a positive none in the loss.

    Returns:
      The sum over rows and their number, float32 scalars.
    """
    real = mask[:, 0]
    # Finite: a row of padding would give NaN gradients with infinities.
    logits = tf.where(mask, corrected, corrected.dtype.min / 2)
    losses = tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]
    return tf.reduce_sum(tf.where(real, losses, 0.0)), tf.reduce_sum(tf.cast(real, tf.float32))

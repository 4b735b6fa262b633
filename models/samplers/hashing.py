"""Hashes of ids, for buckets and for sets of pairs.

There are two more, as each decides bytes that exist: ingest's in numpy (components/impression_gen/hashing.py) those of
stored impressions, the embedding's of 32 bits, like this one, those of trained models.
"""

from __future__ import annotations

from typing import Final

import tensorflow as tf

_MULTIPLIERS: Final = (0x7FEB352D2A8B5D17, 0x1B873593CC9E2D51, 0x3C6EF372FE94F82B)
_LARGEST: Final = 2**63 - 1


def mix(ids: tf.Tensor, seed: int = 0) -> tf.Tensor:
    """A permutation of the 64-bit integers that looks random; each seed gives another one.

    Args:
      ids: int64, any shape.
      seed: which permutation.

    Returns:
      int64 of the same shape.
    """
    value = ids + tf.constant((seed * _MULTIPLIERS[2]) & _LARGEST, tf.int64)
    for shift, multiplier in zip((32, 29), _MULTIPLIERS, strict=False):
        value = tf.bitwise.bitwise_xor(value, _shifted(value, shift)) * tf.constant(multiplier, tf.int64)
    return tf.bitwise.bitwise_xor(value, _shifted(value, 32))


def bucket(ids: tf.Tensor, buckets: int, seed: int) -> tf.Tensor:
    """The bucket of each id, int64 in [0, buckets)."""
    return tf.bitwise.bitwise_and(mix(ids, seed), tf.constant(_LARGEST, tf.int64)) % buckets


def pair_key(user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """One 64-bit key of a user and an item; two pairs share one with probability 2^-64.

    Args:
      user: int64.
      item: int64, broadcast against ``user``.
    """
    return mix(mix(user, seed=1) + item)


def _shifted(value: tf.Tensor, bits: int) -> tf.Tensor:
    """Shift to the right that fills with zeros: the shift of int64 fills with the sign."""
    kept = tf.constant((1 << (64 - bits)) - 1, tf.int64)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(value, tf.constant(bits, tf.int64)), kept)

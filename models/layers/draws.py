"""Random numbers of a training step.

A layer that draws holds a ``keras.random.SeedGenerator``, as Keras' own ``Dropout`` does. Its state, a seed and a
counter, is one of the model's variables: a checkpoint saves it, and a training that goes on draws what one that was
never stopped would have drawn. ``tf.random.uniform`` and its like keep a state that nothing can save.
"""

from __future__ import annotations

import keras
import tensorflow as tf


def next_seed(generator: keras.random.SeedGenerator, *, each_replica: bool) -> tf.Tensor:
    """[2] int64, for one call of a ``tf.random.stateless_*``; a generator never gives a seed twice.

    Args:
      generator: of the layer; its counter goes up.
      each_replica: whether replicas, which all hold the same state, draw numbers of their own.
    """
    seed = tf.convert_to_tensor(generator.next())
    context = tf.distribute.get_replica_context()
    if each_replica and context is not None and context.num_replicas_in_sync > 1:
        seed = tf.random.experimental.stateless_fold_in(seed, context.replica_id_in_sync_group)
    return seed


def uniform(shape: tf.Tensor | list[int], seed: tf.Tensor) -> tf.Tensor:
    """Float32 in [0, 1): the numbers of ``tf.random.stateless_uniform``, in a compiled step, too.

    Both draw the same bits there, but XLA makes a float of the upper ones and TensorFlow's kernels of the lower ones.
    """
    bits = tf.random.stateless_uniform(shape, seed, None, None, tf.int32)
    return tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) * 2.0**-23


class Dropout(keras.layers.Dropout):
    """``keras.layers.Dropout`` that draws by :func:`uniform`; replicas drop the same values."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Any shape in, the same shape out."""
        if not training or not self.rate:
            return inputs
        kept = uniform(tf.shape(inputs), next_seed(self.seed_generator, each_replica=False)) >= self.rate
        return tf.where(kept, inputs / (1.0 - self.rate), tf.zeros_like(inputs))

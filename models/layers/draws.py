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

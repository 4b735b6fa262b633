"""How one state of the history, the same for all candidates, meets each of them."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr.models.layers.dense import Dense
from ctr.models.layers.pooling import for_each_candidate


class StateAndProduct(keras.layers.Layer):
    """[s; (W s) * v]: the state, and its projection into the candidates' space times the candidate.

    The product is not in the papers of the models that use it. They end in a dot product of state and candidate,
    whose terms it hands to the head one by one.
    """

    def build(self, state_width: int, candidate_width: int) -> None:
        """Creates W [state_width, candidate_width]."""
        self.projection = Dense(candidate_width, use_bias=False)
        self.projection.build((None, state_width))
        self.width = state_width + candidate_width
        self.built = True

    def call(self, state: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """State [B, S] and candidates [B, N, D] -> [B, N, S + D]."""
        product = tf.expand_dims(self.projection(state), 1) * candidates
        return tf.concat([for_each_candidate(state, candidates), product], axis=-1)

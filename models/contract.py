"""What every model takes and gives.

A model is called with a transformed impression: the features of ``models/impression.py`` as dense
tensors, right-padded with 0, [B, T] for histories and [B, N] for candidates, any T >= 0 and N >= 1, and [B, 1]
for what is the impression's own. It gives a :class:`ModelOutput`. A model knows no sampler, no loss over
labels, and nothing of TFX.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import NamedTuple

import keras
import tensorflow as tf

from ctr.models.layers.dense import Dense
from ctr.models.layers.embedding import EmbeddedImpression, ImpressionEmbedding
from ctr.models.layers.match import MATCH_FEATURE_NAMES, match_features
from ctr.models.layers.mlp import MLP
from ctr.models.layers.pooling import for_each_candidate
from ctr.models.model_config import ModelConfig


class ModelOutput(NamedTuple):
    """Scores of a batch of impressions."""

    logits: tf.Tensor
    """[B, N] float32; what stands at a padding candidate has no meaning."""
    auxiliary_losses: Mapping[str, tf.Tensor]
    """Name -> [B] float32, each impression's own, already weighted; empty for most models."""


class Ranker(keras.Model, abc.ABC):
    """Embedding, an encoder that each model defines, and an MLP that gives the logit.

    Subclasses implement :meth:`build_encoder` and :meth:`encode`; what they share, the embedding, the match
    features and the head, stands here once.

    Args:
      config: the model's configuration.
      item_indices: size of the item index space, padding and unknown included.
      category_indices: likewise.
      history_length: L, the longest history in training. A longer one must work, too.
    """

    def __init__(self, config: ModelConfig, item_indices: int, category_indices: int, history_length: int) -> None:
        super().__init__(name=config.name)
        self.config = config
        self.history_length = history_length
        self.embedding = ImpressionEmbedding(config, item_indices, category_indices, name="embedding")
        self.head = MLP(config.hidden_units, config, config.dropout, name="head")
        self.logit = Dense(1, name="logit")
        self.embedding.build()
        encoded_width = self.build_encoder(self.embedding.width, self.embedding.context_width)
        candidate_width = self.embedding.width + self.embedding.candidate_context_width
        head_width = encoded_width + candidate_width + self.embedding.own_context_width
        head_width += len(MATCH_FEATURE_NAMES) * config.match_features
        self.head.build((None, head_width))
        self.logit.build((None, config.hidden_units[-1]))
        self.built = True

    @abc.abstractmethod
    def build_encoder(self, width: int, context_width: int) -> int:
        """Creates the encoder's weights for events of ``width`` channels; returns E of :meth:`encode`."""

    @abc.abstractmethod
    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """The history as each candidate sees it: [B, N, E], and auxiliary losses by name."""

    def rescale_logits(self, scale: float, offset: float) -> None:
        """Makes scale * logit + offset the logit, by changing the weights that give it.

        Raises:
          ValueError: if scale is not above 0, which would turn the order around.
        """
        if not scale > 0:
            raise ValueError(f"scale must be above 0 (got {scale})")
        self.logit.kernel.assign(self.logit.kernel * scale)
        self.logit.bias.assign(self.logit.bias * scale + offset)

    def call(self, impression: Mapping[str, tf.Tensor], training: bool = False) -> ModelOutput:
        """Scores a transformed impression; see the module's docstring."""
        embedded = self.embedding(impression, training=training)
        encoded, auxiliary_losses = self.encode(embedded, training)
        parts = [encoded, embedded.candidates, *self.embedding.candidate_context(impression)]
        own = self.embedding.own_context(impression)
        parts += [for_each_candidate(each, embedded.candidates) for each in own]
        if self.config.match_features:
            parts.append(tf.cast(match_features(impression), encoded.dtype))
        hidden = self.head(tf.concat(parts, axis=-1), training=training, valid=embedded.candidate_mask)
        logits = tf.squeeze(self.logit(hidden), axis=-1)
        return ModelOutput(tf.cast(logits, tf.float32), auxiliary_losses)

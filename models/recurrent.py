"""What RNN, LSTM and GRU4Rec share: a recurrent layer over the history and its state at the last event."""

from __future__ import annotations

import abc
from collections.abc import Mapping

import keras
import tensorflow as tf

from ctr.models.contract import Ranker
from ctr.models.layers.embedding import EmbeddedImpression
from ctr.models.layers.interaction import StateAndProduct
from ctr.models.layers.recurrent import cut, longest, state_at_last_event, states_of
from ctr.models.registry import RecurrentConfig


class RecurrentRanker(Ranker, abc.ABC):
    """The state after the last real event, encoded once for all candidates.

    The layer's arguments and the right padding are those that Keras' fused GPU kernels ask for.
    No step is masked: what follows the last event cannot reach the state that is read.
    """

    @abc.abstractmethod
    def build_layer(self, units: int) -> keras.layers.Layer:
        """A recurrent layer with ``units`` channels that returns the state of each step."""

    def build_encoder(self, width: int, context_width: int) -> int:
        """Creates the recurrent layer over events and their context."""
        units = self.config.section(RecurrentConfig).units
        self.recurrence = self.build_layer(units)
        self.recurrence.build((None, None, width + context_width))
        self.interaction = StateAndProduct(name="interaction")
        self.interaction.build(units, width)
        return self.interaction.width

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """[B, N, H + D]."""
        events = tf.concat([embedded.events, embedded.event_context], axis=-1)
        steps = longest(embedded.event_mask)
        states = states_of(self.recurrence, cut(events, steps), cut(embedded.event_mask, steps), training)
        state = state_at_last_event(states, embedded.event_mask)
        return self.interaction(state, embedded.candidates), {}

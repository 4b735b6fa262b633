"""Caser: convolutions over the latest events."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from ctr.models.contract import Ranker
from ctr.models.layers.convolution import HorizontalFilters, VerticalFilters, latest
from ctr.models.layers.embedding import EmbeddedImpression
from ctr.models.layers.interaction import StateAndProduct
from ctr.models.layers.mlp import MLP
from ctr.models.registry import CaserConfig


class Caser(Ranker):
    """Convolutional sequence embedding (Tang and Wang, WSDM 2018, arXiv 1809.07426, section 3.2).

    E holds the latest L = ``caser.events`` events, with rows of zeros before the first of a shorter history. Horizontal
    filters, ``caser.horizontal_filters`` of each height 1..L: activation, then maximum over time. Vertical filters:
    weighted sums over the L rows. A dense layer over both gives the state, encoded once for all candidates.
    The paper's user embedding is left out: users come and go between training and serving.
    """

    def build_encoder(self, width: int, context_width: int) -> int:
        """Creates the filters and the dense layer."""
        settings, channels = self.config.section(CaserConfig), width + context_width
        self.horizontal = HorizontalFilters(
            settings.events, settings.horizontal_filters, self.config, name="horizontal"
        )
        self.horizontal.build(channels)
        self.vertical = VerticalFilters(settings.vertical_filters, name="vertical")
        self.vertical.build((None, settings.events, channels))
        self.dense = MLP([settings.units], self.config, self.config.dropout, name="dense")
        self.dense.build((None, settings.events * settings.horizontal_filters + settings.vertical_filters * channels))
        self.interaction = StateAndProduct(name="interaction")
        self.interaction.build(settings.units, width)
        return self.interaction.width

    def encode(self, embedded: EmbeddedImpression, training: bool) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        """[B, N, units + D]."""
        events = tf.concat([embedded.events, embedded.event_context], axis=-1)
        events, real = latest(events, embedded.event_mask, self.config.section(CaserConfig).events)
        filtered = [self.horizontal(events, real, training=training), self.vertical(events)]
        state = self.dense(tf.concat(filtered, axis=-1), training=training, valid=tf.reduce_any(real, axis=1))
        return self.interaction(state, embedded.candidates), {}

"""Embeddings of events and candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import keras
import tensorflow as tf

from ctr.models.impression import (
    CANDIDATE_CATEGORY_INDEX,
    CANDIDATE_ITEM_ID,
    CANDIDATE_ITEM_INDEX,
    FIRST_KNOWN_INDEX,
    HISTORY_CATEGORY_INDEX,
    HISTORY_ITEM_ID,
    HISTORY_ITEM_INDEX,
    PADDING_ID,
    UNKNOWN_INDEX,
    Feature,
    Group,
    features_of,
)
from ctr.models.layers.draws import next_seed
from ctr.models.model_config import ModelConfig

AGE_BUCKETS: Final = 22
"""Ages are bucketed by powers of two of a second; the last one holds all above 24 days."""


class EmbeddedImpression(NamedTuple):
    """An impression's ids as vectors; D is ``embedding_dim`` for each id space in use."""

    events: tf.Tensor
    """[B, T, D] float: item and category of each event; zero where ``event_mask`` is false."""
    event_context: tf.Tensor
    """[B, T, C] float: behaviour and age of each event, and features of plugins; C = 0 where none is in use; zero
    likewise."""
    event_mask: tf.Tensor
    """[B, T] bool."""
    candidates: tf.Tensor
    """[B, N, D] float, in the same space as ``events``."""
    candidate_mask: tf.Tensor
    """[B, N] bool."""
    event_item_ids: tf.Tensor
    """[B, T] int64: raw ids, ``PADDING_ID`` where ``event_mask`` is false."""
    event_item_indices: tf.Tensor
    """[B, T] int64: rows of the item table that the events were embedded with."""


class ImpressionEmbedding(keras.layers.Layer):
    """One item table and one category table, shared by history and candidates unless configured otherwise.

    In training a share of item ids, drawn anew at each step and the same for every occurrence of an id in
    the batch, is treated as unknown. At evaluation most items are new, so the unknown vector must mean
    "unknown" rather than whatever kind of row happened to hold unknown ids in training.

    Args:
      item_indices: size of the item index space, padding and unknown included.
      category_indices: likewise.
    """

    def __init__(self, config: ModelConfig, item_indices: int, category_indices: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.item_indices = item_indices
        self.category_indices = category_indices
        self._event_context = _embedded("history", config)
        self._candidate_context = _embedded("candidate", config)
        self.salts = keras.random.SeedGenerator()

    def build(self, _: object = None) -> None:
        """Creates the tables."""
        dim = self.config.embedding_dim
        init = keras.initializers.RandomNormal(stddev=0.05)

        def table(rows: int, name: str, columns: int = dim) -> tf.Variable:
            # Under mixed precision Keras would cast the whole table at each step: the rows are cast after the lookup.
            return self.add_weight(shape=(rows, columns), initializer=init, autocast=False, name=name)

        self.categories = table(self.category_indices, "categories")
        self.event_categories = self.categories
        if self.config.item_embedding:
            self.items = table(self.item_indices, "items")
            self.event_items = self.items
        if self.config.separate_history_embedding:
            self.event_categories = table(self.category_indices, "event_categories")
            if self.config.item_embedding:
                self.event_items = table(self.item_indices, "event_items")
        self.context_tables = {}
        for feature in (*self._event_context, *self._candidate_context):
            rows = AGE_BUCKETS if feature.embedding == "log2" else feature.largest + 1
            self.context_tables[_table(feature)] = table(rows, f"{_table(feature)}s", self._width_of(feature))
        self.built = True

    @property
    def width(self) -> int:
        """D of :class:`EmbeddedImpression`."""
        return self.config.embedding_dim * (2 if self.config.item_embedding else 1)

    @property
    def context_width(self) -> int:
        """C of :class:`EmbeddedImpression`."""
        return sum(map(self._width_of, self._event_context))

    @property
    def candidate_context_width(self) -> int:
        """Channels of :meth:`candidate_context`."""
        return sum(map(self._width_of, self._candidate_context))

    def _width_of(self, feature: Feature) -> int:
        return feature.width or max(2, self.config.embedding_dim // 2)

    def candidate_context(self, impression: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """What is embedded of candidates besides their ids, [B, N, ?] each; nothing but what plugins register."""
        return [tf.cast(self._look_up(feature, impression), self.compute_dtype) for feature in self._candidate_context]

    def _look_up(self, feature: Feature, impression: Mapping[str, tf.Tensor]) -> tf.Tensor:
        values = impression[feature.name]
        rows = age_bucket(values) if feature.embedding == "log2" else values
        return look_up(self.context_tables[_table(feature)], rows)

    def call(self, impression: Mapping[str, tf.Tensor], training: bool = False) -> EmbeddedImpression:
        """Looks up a transformed impression (dense tensors, right-padded with 0)."""
        event_mask = impression[HISTORY_ITEM_ID] != PADDING_ID
        candidate_mask = impression[CANDIDATE_ITEM_ID] != PADDING_ID
        event_item, candidate_item = impression[HISTORY_ITEM_INDEX], impression[CANDIDATE_ITEM_INDEX]
        if training and self.config.item_unknown_rate:
            # The same on every replica: a step knows an item, or does not.
            seed = next_seed(self.salts, each_replica=False)
            salt = tf.random.stateless_uniform([], seed, 0, 2**31, tf.int64)
            event_item, candidate_item = self._forget(event_item, salt), self._forget(candidate_item, salt)
        events = [look_up(self.event_categories, impression[HISTORY_CATEGORY_INDEX])]
        candidates = [look_up(self.categories, impression[CANDIDATE_CATEGORY_INDEX])]
        if self.config.item_embedding:
            events.insert(0, look_up(self.event_items, event_item))
            candidates.insert(0, look_up(self.items, candidate_item))
        context = [tf.zeros([*tf.unstack(tf.shape(event_mask)), 0], self.variable_dtype)]
        context += [self._look_up(feature, impression) for feature in self._event_context]
        event_weight = tf.cast(event_mask, self.compute_dtype)[..., None]
        return EmbeddedImpression(
            events=tf.cast(tf.concat(events, axis=-1), self.compute_dtype) * event_weight,
            event_context=tf.cast(tf.concat(context, axis=-1), self.compute_dtype) * event_weight,
            event_mask=event_mask,
            candidates=tf.cast(tf.concat(candidates, axis=-1), self.compute_dtype),
            candidate_mask=candidate_mask,
            event_item_ids=impression[HISTORY_ITEM_ID],
            event_item_indices=event_item,
        )

    def _forget(self, index: tf.Tensor, salt: tf.Tensor) -> tf.Tensor:
        # A multiplicative hash of (index, salt) decides, so that an item is forgotten in history and
        # candidates alike without drawing a number for every row of the table.
        hashed = tf.bitwise.bitwise_and((index + salt) * 0x9E3779B1, 0xFFFFFFFF)
        hashed = tf.bitwise.bitwise_and(tf.bitwise.bitwise_xor(hashed, hashed // 65536) * 0x85EBCA6B, 0xFFFFFFFF)
        forgotten = tf.cast(hashed, tf.float32) < self.config.item_unknown_rate * 2.0**32
        return tf.where(forgotten & (index >= FIRST_KNOWN_INDEX), tf.constant(UNKNOWN_INDEX, index.dtype), index)


def look_up(table: keras.Variable, rows: tf.Tensor) -> tf.Tensor:
    """Rows of a table, int64 any shape, as [..., columns].

    Of the TensorFlow variable: of Keras' own, ``tf.gather`` would first read the whole table, which is a copy of it
    once an optimizer has written single rows.
    """
    return tf.gather(table.value, rows)


def _embedded(group: Group, config: ModelConfig) -> list[Feature]:
    return [
        feature
        for feature in features_of(group)
        if feature.embedding and (callable(feature.source) or getattr(config, f"{feature.short}_embedding"))
    ]


def _table(feature: Feature) -> str:
    return feature.short if feature.group == "history" else feature.name


def age_bucket(age: tf.Tensor) -> tf.Tensor:
    """floor(log2(age in seconds)), 0 for padding, at most ``AGE_BUCKETS`` - 1; int32, the same shape."""
    # float32 would round 2^k - 1 up to 2^k; the small addend keeps 2^k itself out of the bucket below.
    seconds = tf.cast(tf.maximum(age, 1), tf.float64)
    bucket = tf.cast(tf.math.log(seconds) / math.log(2.0) + 1e-9, tf.int32)
    return tf.minimum(bucket, AGE_BUCKETS - 1)

"""Embeddings of events and candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

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
    NO_CODE,
    PADDING_ID,
    UNKNOWN_INDEX,
    Feature,
    Group,
    features_of,
)
from ctr.models.layers.draws import next_seed
from ctr.models.layers.sharded_table import ShardedTable, is_sharded
from ctr.models.model_config import ModelConfig

Index = TypeVar("Index", int, tf.Tensor)

AGE_BUCKETS: Final = 22
"""Ages are bucketed by powers of two of a second; the last one holds all above 24 days."""


class EmbeddedImpression(NamedTuple):
    """An impression's ids as vectors; D is ``embedding_dim`` for each id space in use."""

    events: tf.Tensor
    """[B, T, D] float: item and category of each event; zero where ``event_mask`` is false."""
    event_context: tf.Tensor
    """[B, T, C] float: behaviour and age of each event, and features of plugins or declared; C = 0 where none is in
    use; zero likewise."""
    event_mask: tf.Tensor
    """[B, T] bool."""
    candidates: tf.Tensor
    """[B, N, D] float, in the same space as ``events``."""
    candidate_mask: tf.Tensor
    """[B, N] bool."""
    event_item_ids: tf.Tensor
    """[B, T] int64: raw ids, ``PADDING_ID`` where ``event_mask`` is false."""
    event_item_indices: tf.Tensor
    """[B, T] int64: item indices that the events were embedded by."""


class ImpressionEmbedding(keras.layers.Layer):
    """One item table and one category table, shared by history and candidates unless configured otherwise.

    In training a share of item ids, drawn anew at each step and the same for every occurrence of an id in
    the batch, is treated as unknown. At evaluation most items are new, so the unknown vector must mean
    "unknown" rather than whatever kind of row happened to hold unknown ids in training.

    With ``model.item_buckets`` fewer than the known items, an item's vector is the product of a row of two tables that
    its index divided by the buckets gives: the remainder's and the quotient's (Shi et al. 2020, arXiv 1909.02107,
    section 3). No two items have both rows in common. Indices follow frequency, so each of the most frequent items has
    a remainder's row that it shares with rarer ones alone. Padding and unknown have rows of their own in both.

    Args:
      item_indices: size of the item index space, padding and unknown included.
      category_indices: likewise.
    """

    def __init__(self, config: ModelConfig, item_indices: int, category_indices: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.item_indices = item_indices
        self.category_indices = category_indices
        known = item_indices - FIRST_KNOWN_INDEX
        self.buckets = config.item_buckets if config.item_buckets and config.item_buckets < known else None
        self._event_context = _embedded("history", config)
        self._candidate_context = _embedded("candidate", config)
        self._own_context = _embedded("context_input", config)
        self.salts = keras.random.SeedGenerator()

    def build(self, _: object = None) -> None:
        """Creates the tables."""
        dim = self.config.embedding_dim
        init = keras.initializers.RandomNormal(stddev=0.05)

        def table(rows: int, name: str, columns: int = dim, initializer: object = init) -> tf.Variable:
            # Under mixed precision Keras would cast the whole table at each step: the rows are cast after the lookup.
            return self.add_weight(shape=(rows, columns), initializer=initializer, autocast=False, name=name)

        def quotients(name: str) -> Any:
            if self.buckets is None:
                return None
            # Ones: the product starts as the remainder's row.
            return table(_quotient(self.item_indices - 1, self.buckets) + 1, name, initializer="ones")

        self.categories = table(self.category_indices, "categories")
        self.event_categories = self.categories
        item_rows = FIRST_KNOWN_INDEX + self.buckets if self.buckets else self.item_indices

        def items(name: str) -> Any:
            return ShardedTable(item_rows, dim, init, name) if is_sharded() else table(item_rows, name)

        if self.config.item_embedding:
            self.items, self.item_quotients = items("items"), quotients("item_quotients")
            self.event_items, self.event_item_quotients = self.items, self.item_quotients
        if self.config.separate_history_embedding:
            self.event_categories = table(self.category_indices, "event_categories")
            if self.config.item_embedding:
                self.event_items = items("event_items")
                self.event_item_quotients = quotients("event_item_quotients")
        self.context_tables: dict[str, Any] = {}
        for parts in (*self._event_context, *self._candidate_context, *self._own_context):
            name = self._table(parts[0])
            if name not in self.context_tables:
                self.context_tables[name] = table(_rows(parts[0]), f"{name}s", self._width_of(parts))
        self.built = True

    @property
    def sharded_tables(self) -> list[ShardedTable]:
        """The item tables, where they are sharded."""
        tables = [self.items, self.event_items] if self.config.item_embedding else []
        return list(dict.fromkeys(table for table in tables if isinstance(table, ShardedTable)))

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

    @property
    def own_context_width(self) -> int:
        """Channels of :meth:`own_context`."""
        return sum(map(self._width_of, self._own_context))

    def _width_of(self, parts: Sequence[Feature]) -> int:
        return parts[0].width or max(2, self.config.embedding_dim // 2)

    def candidate_context(self, impression: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """What is embedded of candidates besides their ids, [B, N, ?] each; nothing but what plugins register and what
        is declared."""
        return [tf.cast(self._look_up(parts, impression), self.compute_dtype) for parts in self._candidate_context]

    def own_context(self, impression: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """What is embedded of the impression itself, [B, ?] each; nothing but what is declared."""
        looked_up = [self._look_up(parts, impression) for parts in self._own_context]
        return [tf.cast(tf.squeeze(each, axis=1), self.compute_dtype) for each in looked_up]

    def _table(self, feature: Feature) -> str:
        if not feature.declared:
            return feature.short if feature.group == "history" else feature.name
        own = self.config.separate_history_embedding and feature.group == "history"
        return f"event_feature_{feature.declared}" if own else f"feature_{feature.declared}"

    def _look_up(self, parts: Sequence[Feature], impression: Mapping[str, tf.Tensor]) -> tf.Tensor:
        table = self.context_tables[self._table(parts[0])]
        if len(parts) > 1:
            codes = tf.stack([impression[part.index] for part in parts], axis=-1)
            there = tf.cast(codes != NO_CODE, table.dtype)[..., None]
            total = tf.reduce_sum(look_up(table, codes) * there, axis=-2)
            return total / tf.maximum(tf.reduce_sum(there, axis=-2), 1)
        (feature,) = parts
        if feature.encoding:
            return look_up(table, impression[feature.index])
        values = impression[feature.name]
        return look_up(table, age_bucket(values) if feature.embedding == "log2" else values)

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
            events.insert(0, self.event_item_vectors(event_item))
            candidates.insert(0, self._item_vectors(candidate_item, self.items, self.item_quotients))
        context = [tf.zeros([*tf.unstack(tf.shape(event_mask)), 0], self.variable_dtype)]
        context += [self._look_up(parts, impression) for parts in self._event_context]
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

    def event_item_vectors(self, index: tf.Tensor) -> tf.Tensor:
        """[..., embedding_dim] float32 of [...] int64 item indices, as events of a history are embedded."""
        return self._item_vectors(index, self.event_items, self.event_item_quotients)

    def _item_vectors(self, index: tf.Tensor, items: Any, quotients: Any) -> tf.Tensor:
        if self.buckets is None:
            return look_up(items, index)
        known = index >= FIRST_KNOWN_INDEX
        remainder = tf.where(known, (index - FIRST_KNOWN_INDEX) % self.buckets + FIRST_KNOWN_INDEX, index)
        quotient = tf.where(known, _quotient(index, self.buckets), 0)
        return look_up(items, remainder) * look_up(quotients, quotient)

    def _forget(self, index: tf.Tensor, salt: tf.Tensor) -> tf.Tensor:
        # A multiplicative hash of (index, salt) decides, so that an item is forgotten in history and
        # candidates alike without drawing a number for every row of the table.
        hashed = tf.bitwise.bitwise_and((index + salt) * 0x9E3779B1, 0xFFFFFFFF)
        hashed = tf.bitwise.bitwise_and(tf.bitwise.bitwise_xor(hashed, hashed // 65536) * 0x85EBCA6B, 0xFFFFFFFF)
        forgotten = tf.cast(hashed, tf.float32) < self.config.item_unknown_rate * 2.0**32
        return tf.where(forgotten & (index >= FIRST_KNOWN_INDEX), tf.constant(UNKNOWN_INDEX, index.dtype), index)


def look_up(table: keras.Variable | ShardedTable, rows: tf.Tensor) -> tf.Tensor:
    """Rows of a table, int64 any shape, as [..., columns].

    Of the TensorFlow variable: of Keras' own, ``tf.gather`` would first read the whole table, which is a copy of it
    once an optimizer has written single rows.
    """
    return table.look_up(rows) if isinstance(table, ShardedTable) else tf.gather(table.value, rows)


def _quotient(index: Index, buckets: int) -> Index:
    """Of known indices, from 1: row 0 is that of padding and unknown."""
    return (index - FIRST_KNOWN_INDEX) // buckets + 1


def _embedded(group: Group, config: ModelConfig) -> list[tuple[Feature, ...]]:
    """What is embedded of a group; of a feature with several values its rows together."""
    found: dict[str, list[Feature]] = {}
    for feature in features_of(group):
        if feature.encoding:
            found.setdefault(feature.declared, []).append(feature)
        elif feature.embedding and (callable(feature.source) or getattr(config, f"{feature.short}_embedding")):
            found[feature.name] = [feature]
    return [tuple(parts) for parts in found.values()]


def _rows(feature: Feature) -> int:
    if feature.encoding:
        return feature.encoding.largest + 1
    return AGE_BUCKETS if feature.embedding == "log2" else feature.largest + 1


def age_bucket(age: tf.Tensor) -> tf.Tensor:
    """floor(log2(age in seconds)), 0 for padding, at most ``AGE_BUCKETS`` - 1; int32, the same shape."""
    # float32 would round 2^k - 1 up to 2^k; the small addend keeps 2^k itself out of the bucket below.
    seconds = tf.cast(tf.maximum(age, 1), tf.float64)
    bucket = tf.cast(tf.math.log(seconds) / math.log(2.0) + 1e-9, tf.int32)
    return tf.minimum(bucket, AGE_BUCKETS - 1)

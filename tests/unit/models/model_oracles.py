"""Models of a small shop, and the parts that all models share written out in numpy."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ctr.models.contract import Ranker
from ctr.models.impression import (
    CANDIDATE_CATEGORY_INDEX,
    CANDIDATE_ITEM_INDEX,
    HISTORY_AGE,
    HISTORY_BEHAVIOR,
    HISTORY_CATEGORY_INDEX,
    HISTORY_ITEM_ID,
    HISTORY_ITEM_INDEX,
)
from ctr.models.layers.embedding import ImpressionEmbedding
from ctr.models.layers.match import match_features
from ctr.models.layers.mlp import MLP
from ctr.models.model_config import ModelConfig
from ctr.models.registry import build_model

Inputs = dict[str, tf.Tensor]


def build(name: str, **settings: object) -> Ranker:
    # A few narrow layers may start with every unit dead; not with this seed.
    keras.utils.set_random_seed(1)
    defaults: dict[str, object] = {"embedding_dim": 4, "hidden_units": (6, 5), "attention_units": (5, 3)}
    return build_model(ModelConfig(name=name, **{**defaults, **settings}), 50, 12, history_length=6)


def scores(model: Ranker, inputs: Inputs) -> np.ndarray:
    return model(inputs, training=False).logits.numpy()


def mlp_oracle(mlp: MLP, x: np.ndarray) -> np.ndarray:
    """ReLU MLP from its matrices."""
    for dense in mlp.dense:
        x = np.maximum(x @ dense.kernel.numpy() + dense.bias.numpy(), 0)
    return x


def head_oracle(model: Ranker, encoded: np.ndarray, target: np.ndarray, match: np.ndarray) -> float:
    hidden = mlp_oracle(model.head, np.concatenate([encoded, target, match]))
    return float((hidden @ model.logit.kernel.numpy() + model.logit.bias.numpy())[0])


def item_vectors(table: ImpressionEmbedding, name: str, index: np.ndarray) -> np.ndarray:
    rows, buckets = getattr(table, name).numpy(), table.config.item_buckets
    if buckets is None:
        return rows[index]
    quotients = getattr(table, f"{name.removesuffix('s')}_quotients").numpy()
    pairs = [(k, 0) if k < 2 else ((k - 2) % buckets + 2, (k - 2) // buckets + 1) for k in index.tolist()]
    return np.array([rows[remainder] * quotients[quotient] for remainder, quotient in pairs]).reshape(-1, rows.shape[1])


def embedding_oracle(model: Ranker, inputs: Inputs, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real events [t, D], their context [t, C], candidates [N, D]."""
    table = model.embedding
    length = int((inputs[HISTORY_ITEM_ID][row].numpy() > 0).sum())
    value = {name: tensor[row].numpy() for name, tensor in inputs.items()}
    config, real = model.config, slice(length)

    def ids(item_table: str, category_table: str, item: str, category: str) -> np.ndarray:
        parts = [item_vectors(table, item_table, value[item])] if config.item_embedding else []
        return np.concatenate([*parts, getattr(table, category_table).numpy()[value[category]]], axis=1)

    prefix = "event_" if config.separate_history_embedding else ""
    events = ids(f"{prefix}items", f"{prefix}categories", HISTORY_ITEM_INDEX, HISTORY_CATEGORY_INDEX)[real]
    candidates = ids("items", "categories", CANDIDATE_ITEM_INDEX, CANDIDATE_CATEGORY_INDEX)
    parts = [np.zeros((length, 0))]
    if config.behavior_embedding:
        parts.append(table.context_tables["behavior"].numpy()[value[HISTORY_BEHAVIOR][real]])
    if config.age_embedding:
        parts.append(
            table.context_tables["age"].numpy()[np.floor(np.log2(value[HISTORY_AGE][real])).astype(int).clip(0, 21)]
        )
    context = np.concatenate(parts, axis=1)
    return events, context, candidates


def model_oracle(
    model: Ranker, inputs: Inputs, encode: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    match = match_features(inputs).numpy()
    rows = []
    for row in range(match.shape[0]):
        events, context, candidates = embedding_oracle(model, inputs, row)
        rows.append(
            [head_oracle(model, encode(events, context, v), v, match[row, n]) for n, v in enumerate(candidates)]
        )
    return np.array(rows)


def mean(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=0) if len(x) else np.zeros(x.shape[1])


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis; nothing for no values."""
    if not x.shape[-1]:
        return x
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)

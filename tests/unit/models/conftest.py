"""Random impressions as tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from graph_passes import _without_graph_passes

from ctr.models.impression import (
    BEHAVIORS,
    CANDIDATE_CATEGORY_ID,
    CANDIDATE_ITEM_ID,
    FEATURES,
    FIRST_KNOWN_INDEX,
    HISTORY_AGE,
    HISTORY_BEHAVIOR,
    HISTORY_CATEGORY_ID,
    HISTORY_INPUTS,
    HISTORY_ITEM_ID,
    INDEX_OF,
)

__all__ = ["_without_graph_passes"]

ITEMS, CATEGORIES = 40, 8
Inputs = dict[str, tf.Tensor]


@pytest.fixture
def make_inputs() -> Callable[..., Inputs]:
    """``make_inputs(lengths, width, candidates, seed)``: model inputs with histories of the given lengths."""

    def make(lengths: list[int], width: int, candidates: int = 3, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        real = np.arange(width)[None, :] < np.array(lengths)[:, None]
        shape, rows = real.shape, len(lengths)
        ids = {
            HISTORY_ITEM_ID: rng.integers(1, ITEMS, shape) * real,
            HISTORY_CATEGORY_ID: rng.integers(1, CATEGORIES, shape) * real,
            CANDIDATE_ITEM_ID: rng.integers(1, ITEMS, (rows, candidates)),
            CANDIDATE_CATEGORY_ID: rng.integers(1, CATEGORIES, (rows, candidates)),
        }
        # Oldest first: ages fall along the history.
        ages = np.sort(rng.integers(1, 500_000, shape), axis=1)[:, ::-1] * real
        inputs = {
            **ids,
            HISTORY_BEHAVIOR: rng.integers(1, len(BEHAVIORS) + 1, shape) * real,
            HISTORY_AGE: ages,
        }
        for name, index in INDEX_OF.items():
            feature = FEATURES[name]
            if feature.encoding:
                size = {"history": shape, "candidate": (rows, candidates)}.get(feature.group, (rows, 1))
                codes = rng.integers(0, feature.encoding.largest + 1, size)
                inputs[index] = codes * real if feature.group == "history" else codes
            else:
                inputs[index] = np.where(ids[name] > 0, ids[name] + FIRST_KNOWN_INDEX - 1, 0)
        return {name: tf.constant(value, tf.int64) for name, value in inputs.items()}

    return make


@pytest.fixture
def pad_history() -> Callable[[Inputs, int], Inputs]:
    """``pad_history(inputs, by)``: the same impressions with ``by`` more steps of padding."""

    def pad(inputs: Inputs, by: int) -> Inputs:
        padding = [[0, 0], [0, by]]
        return {name: tf.pad(value, padding) if name in HISTORY_INPUTS else value for name, value in inputs.items()}

    return pad

"""Leaving out what TensorFlow does to a graph before its first step, where only a few steps follow.

A third of the time of a test that traces a model and trains it for some steps; the end-to-end tests train with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tensorflow as tf


@pytest.fixture(scope="module", autouse=True)
def _without_graph_passes() -> Iterator[None]:
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})

"""A real SavedModel with the signatures of the exported ranking models, simple enough to check by hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest
import tensorflow as tf

from ctr.models.impression import CANDIDATE_FEATURES, HISTORY_FEATURES, REQUEST_FEATURES
from ctr.serving.client import RankingClient
from ctr.serving.impressions import Candidate, Event, Impression
from ctr.serving.server import ModelServer

MODEL = "ctr"


class CountingRanker(tf.Module):
    """logit = bias + how often the candidate's category stands in the history; also counts its own calls."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.bias = tf.Variable(bias, dtype=tf.float32)
        self.calls = tf.Variable(0, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name=name) for name in REQUEST_FEATURES])
    def rank(
        self,
        history_item_id: tf.Tensor,
        history_category_id: tf.Tensor,
        history_behavior: tf.Tensor,
        history_age: tf.Tensor,
        candidate_item_id: tf.Tensor,
        candidate_category_id: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        for other in (history_category_id, history_behavior, history_age):
            tf.debugging.assert_equal(
                tf.shape(history_item_id), tf.shape(other), message="history features differ in length"
            )
        same = (candidate_category_id[:, :, None] == history_category_id[:, None, :]) & (
            history_item_id[:, None, :] > 0
        )
        logit = self.bias + tf.reduce_sum(tf.cast(same, tf.float32), axis=2)
        real = tf.cast(candidate_item_id > 0, tf.float32)
        return {
            "probability": tf.sigmoid(logit) * real,
            "logit": logit * real,
            "calls": self.calls.assign_add(1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {name: tf.io.RaggedFeature(tf.int64) for name in REQUEST_FEATURES}
        return {name: value.to_tensor() for name, value in tf.io.parse_example(examples, spec).items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = self.rank(**self.transform(examples))
        return {"probability": outputs["probability"], "logit": outputs["logit"]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        logit = self.serve(inputs)["logit"][:, :1]
        labels = tf.tile(tf.constant([["chosen", "not"]]), [tf.shape(logit)[0], 1])
        return {"scores": tf.concat([logit, -logit], axis=1), "classes": labels}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self.serve(inputs)["logit"][:, :1]}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float64, name="seconds")])
    def busy(self, seconds: tf.Tensor) -> dict[str, tf.Tensor]:
        start = tf.timestamp()
        now = start
        while now - start < seconds:
            now = tf.timestamp()
        return {"seconds": now - start}


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """bias -> directory of a SavedModel."""
    paths = {}
    for bias in (0.0, 10.0):
        module = CountingRanker(bias)
        paths[bias] = tmp_path_factory.mktemp(f"bias{bias:g}") / "model"
        signatures = {
            "rank": module.rank,
            "serving_default": module.serve,
            "transform_features": module.transform,
            "classes": module.classify,
            "numbers": module.regress,
            "busy": module.busy,
        }
        tf.saved_model.save(module, str(paths[bias]), signatures=signatures)
    return paths


class Push(Protocol):
    """Puts a version into a base directory the way the pusher does: complete, by one rename."""

    def __call__(
        self, base: Path, version: int, bias: float = 0.0, prepare: Callable[[Path], object] | None = None
    ) -> Path: ...


@pytest.fixture
def push(saved_models: dict[float, Path]) -> Push:
    def _push(base: Path, version: int, bias: float = 0.0, prepare: Callable[[Path], object] | None = None) -> Path:
        temporary = base / f".{version}.tmp"
        shutil.copytree(saved_models[bias], temporary)
        if prepare is not None:
            prepare(temporary)
        os.rename(temporary, base / str(version))
        return base / str(version)

    return _push


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "serving" / MODEL
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory, saved_models: dict[float, Path]) -> Iterator[ModelServer]:
    """A server of version 3, for tests that leave it as it is."""
    base = tmp_path_factory.mktemp("base")
    shutil.copytree(saved_models[0.0], base / "3")
    with ModelServer(base, MODEL, poll_seconds=0.05, max_message_bytes=256 * 1024) as server:
        server.wait_until_ready(60)
        yield server


@contextmanager
def _client(server: ModelServer) -> Iterator[RankingClient]:
    with RankingClient(f"127.0.0.1:{server.port}", MODEL, timeout=30) as client:
        yield client


@pytest.fixture
def connect() -> Callable[[ModelServer], AbstractContextManager[RankingClient]]:
    return _client


@pytest.fixture(scope="module")
def shared_client(shared_server: ModelServer) -> Iterator[RankingClient]:
    with _client(shared_server) as client:
        yield client


def _impression(history: list[int], candidates: list[int]) -> Impression:
    return Impression(
        history=[
            Event(item_id=100 + index, category_id=category, behavior="pv", age_seconds=10_000 - index)
            for index, category in enumerate(history)
        ],
        candidates=[Candidate(item_id=500 + index, category_id=category) for index, category in enumerate(candidates)],
    )


@pytest.fixture(scope="session")
def impression() -> Callable[[list[int], list[int]], Impression]:
    """(categories of the history, categories of the candidates) -> impression."""
    return _impression


@pytest.fixture(scope="session")
def serialized() -> Callable[[Impression], bytes]:
    """An impression as a tf.train.Example, without label, as ``serving_default`` takes it."""

    def _serialized(impression: Impression) -> bytes:
        values = impression.features()
        feature = {
            name: tf.train.Feature(int64_list=tf.train.Int64List(value=values[name]))
            for name in HISTORY_FEATURES + CANDIDATE_FEATURES
        }
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    return _serialized

"""Models that answer alike in every way pass; one that does not is stopped, and where is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from block_files import write_blocks

from ctr.components.counting import CountsConfig
from ctr.components.skew_check.check import IMPRESSIONS, SkewError, _without_looked_up, check, draw
from ctr.components.skew_check.settings import SkewCheckSettings
from ctr.models.errors import DataError
from ctr.models.impression import (
    CANDIDATE_ITEM_ID,
    HISTORY_FEATURES,
    INDEX_OF,
    MODEL_INPUTS,
    REQUEST_FEATURES,
    declare_features,
)
from ctr.models.model_config import ModelConfig

LENGTH = 4
SETTINGS = SkewCheckSettings(plugins=(), model=ModelConfig(), history_length=LENGTH, precision="float32", seed=1)


class Ranker(tf.Module):
    """logit = the item's index over 100; what is added to it, or to an index, in one way of asking alone."""

    def __init__(self, by_rank: float = 0, to_index: int = 0) -> None:
        super().__init__()
        # An export without variables has no checkpoint.
        self.unused = tf.Variable(0.0)
        self.by_rank, self.to_index = by_rank, to_index

    @tf.function(input_signature=[{name: tf.TensorSpec([None, None], tf.int64, name) for name in REQUEST_FEATURES}])
    def rank(self, request: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self.scores(request["candidate_item_id"], self.by_rank)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serving_default(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {"candidate_item_id": tf.io.RaggedFeature(tf.int64)}
        return self.scores(tf.io.parse_example(examples, spec)["candidate_item_id"].to_tensor(), 0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def transform_features(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        lists = tf.io.parse_example(examples, {name: tf.io.RaggedFeature(tf.int64) for name in REQUEST_FEATURES})
        raw = {
            name: values[:, -LENGTH:].to_tensor(shape=[None, LENGTH])
            if name in HISTORY_FEATURES
            else values.to_tensor()
            for name, values in lists.items()
        }
        added = {"candidate_item_index": self.to_index}
        return raw | {
            index: tf.where(raw[name] > 0, raw[name] + 1 + added.get(index, 0), 0) for name, index in INDEX_OF.items()
        }

    def scores(self, items: tf.Tensor, added: float) -> dict[str, tf.Tensor]:
        logit = tf.where(items > 0, tf.cast(items, tf.float32) / 100 + added, -9.0)
        return {"logit": logit, "probability": tf.sigmoid(logit)}


def save(folder: Path, **tampered: Any) -> str:
    model = Ranker(**tampered)
    signatures = {name: getattr(model, name) for name in ("rank", "serving_default", "transform_features")}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return str(folder)


def write(folder: Path, count: int) -> dict[str, Any]:
    """Impressions of 0 to 6 events and 2 to 4 candidates, in two shards, before and after Transform."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        events, candidates = i % 7, 2 + i % 3
        features: dict[str, Any] = {name: rng.integers(1, 4, events) for name in HISTORY_FEATURES}
        features["history_age"] = np.sort(features["history_age"])[::-1]
        features |= {"candidate_item_id": rng.integers(1, 99, candidates)}
        features |= {"candidate_category_id": rng.integers(1, 9, candidates), "user_id": [i], "timestamp": [1000 + i]}
        rows.append(features)

    def serialized(features: dict[str, Any], **text: bytes) -> bytes:
        example = tf.train.Example()
        for name, values in features.items():
            example.features.feature[name].int64_list.value.extend(values)
        for name, value in text.items():
            example.features.feature[name].bytes_list.value.append(value)
        return example.SerializeToString(deterministic=True)

    files: dict[str, Any] = {"raw_files": [], "transformed_files": [], "transform_uri": str(folder)}
    for shard in range(2):
        path = str(folder / f"raw-{shard}.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for features in rows[shard::2]:
                writer.write(serialized(features, negative_set=b"uniform"))
        files["raw_files"].append(path)
        mapped = [
            features | {index: features[id_] + 1 for id_, index in INDEX_OF.items()} for features in rows[shard::2]
        ]
        files["transformed_files"].append(write_blocks(folder / f"transformed-{shard}", mapped))
    assets = folder / "transform_fn" / "assets"
    assets.mkdir(parents=True)
    for name in ("item", "category"):
        (assets / f"{name}_vocabulary.txt").write_text("1\n" * 100)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write(tmp_path_factory.mktemp("impressions"), 2 * IMPRESSIONS)


def test_a_model_that_answers_alike_passes(files: dict[str, Any], tmp_path: Path) -> None:
    found = check(SETTINGS, **files, model_folder=save(tmp_path / "model"))
    assert found.impressions == IMPRESSIONS
    assert 2 * IMPRESSIONS < found.candidates < 4 * IMPRESSIONS
    assert found.signature_to_server <= found.tolerance == 1e-5
    # Its weights are none of this project's models; the end-to-end tests call theirs.
    assert found.model_to_signature is None


@pytest.mark.parametrize("added", [1e-3, float("nan")])
def test_a_server_that_scores_otherwise_is_named(files: dict[str, Any], tmp_path: Path, added: float) -> None:
    model = save(tmp_path / "model", by_rank=added)
    if np.isnan(added):
        with pytest.raises(Exception, match="a score that is no number"):
            check(SETTINGS, **files, model_folder=model)
        return
    with pytest.raises(SkewError) as raised:
        check(SETTINGS, **files, model_folder=model)
    user = int(str(raised.value).split()[1])
    assert str(raised.value).startswith(f"user {user} at {1000 + user}, uniform negatives, candidate ")
    assert "by the server, and" in str(raised.value)
    assert "they may differ by 1e-05" in str(raised.value)


def test_an_id_of_another_index_is_named(files: dict[str, Any], tmp_path: Path) -> None:
    model = save(tmp_path / "model", to_index=3)
    with pytest.raises(SkewError, match=r"user \d+ at \d+, uniform negatives: candidate_item_index 0 is (\d+) after"):
        check(SETTINGS, **files, model_folder=model)


def test_the_sample_is_seeded_and_of_the_same_impressions(files: dict[str, Any], tmp_path: Path) -> None:
    raw, transformed = files["raw_files"], files["transformed_files"]
    one, again, other = (draw(raw, transformed, seed) for seed in (1, 1, 2))
    assert one.raw.tolist() == again.raw.tolist() != other.raw.tolist()
    assert len(set(one.raw.tolist())) == IMPRESSIONS
    items = tf.io.parse_example(one.raw, {CANDIDATE_ITEM_ID: tf.io.RaggedFeature(tf.int64)})[CANDIDATE_ITEM_ID]
    assert one.transformed[CANDIDATE_ITEM_ID].to_list() == items.to_list()
    assert one.transformed.keys() == {*MODEL_INPUTS}
    with pytest.raises(DataError, match="is another one after Transform"):
        draw(raw[:1], transformed[1:], 1)
    empty = str(tmp_path / "empty.gz")
    with tf.io.TFRecordWriter(empty, "GZIP"):
        pass
    nothing = write_blocks(tmp_path / "empty", [])
    with pytest.raises(DataError, match="the split is empty"):
        draw([empty], [nothing], 1)
    assert len(draw([raw[0], empty], [transformed[0], nothing], 1).raw) == IMPRESSIONS
    with pytest.raises(DataError, match=f"{empty}: 0 impressions, but there are more after Transform"):
        draw([empty], transformed[:1], 1)


@pytest.mark.usefixtures("table")
def test_the_signature_is_asked_without_what_a_request_cannot_carry(files: dict[str, Any]) -> None:
    """Or the server, which looks counts up, would be held against those of the impression's own time."""
    raw = draw(files["raw_files"], files["transformed_files"], 1).raw[:3]
    declare_features(CountsConfig(item=(3600,)).rows)
    counted = [tf.train.Example.FromString(each) for each in raw]
    for example in counted:
        example.features.feature["candidate_item_events_1h"].int64_list.value.extend([1, 2])
    asked = _without_looked_up(np.array([each.SerializeToString() for each in counted], dtype=object)).numpy()
    assert [tf.train.Example.FromString(each) for each in asked] == [tf.train.Example.FromString(each) for each in raw]


def test_every_input_of_a_model_is_compared(files: dict[str, Any], tmp_path: Path) -> None:
    served = tf.saved_model.load(save(tmp_path / "model"))
    assert {*served.signatures["transform_features"].structured_outputs} == {*MODEL_INPUTS}

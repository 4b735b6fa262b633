"""One device, two mirrored ones and two workers train the same models from the same global batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from ctr.models.loss_scale import FIRST_SCALE

MODELS = ["din", "lstm/streaming_frequency", "transformer4rec/mixed", "dien/hard"]
"""Each kind of variable and of its gradient: embeddings, Dice's statistics and attention; Keras' recurrence; layer
norms; a recurrence of our own. Each way to draw: stored negatives, the batch alone and with others, what the model
scores highest."""
SCRIPT = Path(__file__).with_name("training_process.py")
REPOSITORY = Path(__file__).parents[3]


def start(cpu_replicas: int, models: list[str], tf_config: dict[str, Any] | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(REPOSITORY)}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(cpu_replicas), *models],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return result(start(1, [*MODELS, "dnn:plain"]))


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for each in (a["overflow"], b["overflow"]):
        before, skipped, after = each["states"]
        assert skipped == before
        assert all(new != old for new, old in zip(after[:2], before[:2], strict=True))
        assert each["scale"] == FIRST_SCALE / 2
    for name in a["models"].keys() & b["models"].keys():
        assert_same_model(a["models"][name], b["models"][name], name)


def assert_same_model(one: dict[str, Any], other: dict[str, Any], name: str) -> None:
    assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5), name
    assert one["validation_auc"] == pytest.approx(other["validation_auc"], abs=1e-3), name
    assert one["weights"] == pytest.approx(other["weights"], rel=1e-3, abs=1e-4), name
    # What a sampler keeps is that of the global batches, whoever saw which part of them.
    assert one["gaps"] == other["gaps"], name


@pytest.mark.slow
def test_two_mirrored_devices_equal_one(alone: dict[str, Any]) -> None:
    # Its replicas mask different numbers of events.
    cloze = "bert4rec+"
    mirrored = result(start(2, [*MODELS, cloze, "dnn:accumulated", "dnn:compiled", "din:sharded"]))
    losses = mirrored["models"][cloze]["train_loss"]
    assert losses[-1] < losses[0]
    assert (alone["replicas"], mirrored["replicas"]) == (1, 2)
    for name in MODELS:
        losses = alone["models"][name]["train_loss"]
        assert losses[-1] < losses[0], name
        assert alone["models"][name]["steps"] == mirrored["models"][name]["steps"], name
    assert alone["models"]["din"]["validation_auc"]
    assert_same(mirrored, alone)
    # The sum over parts of each replica's batch is that over the batch.
    assert_same_model(mirrored["models"]["dnn:accumulated"], alone["models"]["dnn:plain"], "accumulated")
    # XLA compiles forward and backward of each replica; what they tell one another stands around them.
    assert_same_model(mirrored["models"]["dnn:compiled"], alone["models"]["dnn:plain"], "compiled")
    # Half of the 11 rows a device, and each device's own.
    sharded = mirrored["models"]["din:sharded"]
    assert_same_model(sharded, alone["models"]["din"], "sharded")
    assert [shape for shape, _ in sharded["shards"]] == [[6, 4]] * 2
    assert len({device for _, device in sharded["shards"]}) == 2


@pytest.mark.slow
def test_two_workers_equal_one(alone: dict[str, Any]) -> None:
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}
    # What goes over processes is all in this one: gradients, Dice's sums, the sampler's columns and what it keeps.
    names = ["lstm/streaming_frequency"]
    workers = [start(1, names, {"cluster": cluster, "task": {"type": "worker", "index": k}}) for k in range(2)]
    first, second = (result(worker) for worker in workers)
    assert first["replicas"] == 2
    assert list(first["models"]) == names
    assert_same(first, second)
    assert_same(first, alone)

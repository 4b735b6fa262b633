"""What a process is told of the others, and who does what."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from ctr.components.settings import TrainingConfig
from ctr.components.trainer import strategy
from ctr.components.trainer.cluster import is_chief, several_workers
from ctr.components.trainer.strategy import WorkerLost, files_of_worker, losing_workers
from ctr.components.trainer.train import train
from ctr.models.errors import ConfigError

FILES = ["c", "a", "e", "b", "d"]


def told(cluster: dict[str, int], kind: str, index: int) -> dict[str, str]:
    addresses = {name: [f"{name}-{k}:2222" for k in range(count)] for name, count in cluster.items()}
    return {"TF_CONFIG": json.dumps({"cluster": addresses, "task": {"type": kind, "index": index}})}


@pytest.mark.parametrize(
    ("cluster", "tasks"),
    [
        ({"worker": 3}, [("worker", 0), ("worker", 1), ("worker", 2)]),
        ({"chief": 1, "worker": 2}, [("chief", 0), ("worker", 0), ("worker", 1)]),
    ],
)
def test_one_is_the_chief_and_each_file_is_read_once(cluster: dict[str, int], tasks: list[tuple[str, int]]) -> None:
    environments = [told(cluster, *task) for task in tasks]

    assert all(several_workers(each) for each in environments)
    assert [is_chief(each) for each in environments] == [True, False, False]
    parts = [files_of_worker(FILES, each) for each in environments]
    assert parts == [(["a", "d"], True), (["b", "e"], True), (["c"], True)]
    # Of two files one worker would have none.
    assert [files_of_worker(FILES[:2], each) for each in environments] == [(["c", "a"], False)] * 3


@pytest.mark.parametrize("environment", [{}, {"TF_CONFIG": ""}, told({"worker": 1}, "worker", 0)])
def test_one_alone_is_the_chief(environment: dict[str, str]) -> None:
    assert (several_workers(environment), is_chief(environment)) == (False, True)
    assert files_of_worker(FILES, environment) == (FILES, False)


@pytest.mark.parametrize("text", ["worker", "[1]", '{"task": null}', '{"task": {"index": "one"}}'])
def test_what_is_no_cluster_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="TF_CONFIG: .* is no JSON object"):
        several_workers({"TF_CONFIG": text})


def test_tables_are_not_sharded_over_several_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in told({"worker": 2}, "worker", 0).items():
        monkeypatch.setenv(key, value)
    settings: Any = SimpleNamespace(training=TrainingConfig(shard_tables=True), stored=None)
    nothing: Any = None
    # Before anything is read, and before it waits for the others.
    with pytest.raises(ConfigError, match=r"training\.shard_tables: .* TF_CONFIG names several workers"):
        train(settings, transform=nothing, catalogue_size=1, train_files=[], validation_files=[])


def test_an_error_of_one_alone_is_its_own() -> None:
    with pytest.raises(tf.errors.AbortedError), losing_workers(tf.distribute.get_strategy()):
        raise tf.errors.AbortedError(None, None, "aborted")
    assert not issubclass(WorkerLost, tf.errors.OpError)


def test_workers_that_do_not_come_end_those_that_did(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    with strategy._joined_within(0.01):
        time.sleep(0.2)
    assert codes == [1]
    assert "not all workers came within 0.01 s" in capfd.readouterr().err
    with strategy._joined_within(0.1):
        pass
    time.sleep(0.2)
    assert codes == [1]

"""Two workers train one model: the Trainer step is the chief's, the other is the command that a pod runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from trained_run import Trained
from trainer_launch import launch

from ctr.components.trainer.workers import JOB_ENV, WorkerFailed

ROOT = Path(__file__).parents[3]


class Job:
    """Both workers of one try; the chief runs in this process and one that it starts."""

    def __init__(self, name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # As kubernetes/components/training-workers has it.
        kinds = ("chief", "worker")
        cluster = {kind: [f"127.0.0.1:{free_port()}"] for kind in kinds}
        first, second = (json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}}) for kind in kinds)
        monkeypatch.setenv(JOB_ENV, name)
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("TF_CONFIG", first)
        self.work = root / "Trainer" / "work" / f"{name}.json"
        self.said = root / f"{name}.err"
        with self.said.open("w") as said:
            command = [sys.executable, "-m", "ctr", "worker", "--work", str(self.work)]
            self.other = subprocess.Popen(command, stderr=said, env={**os.environ, "TF_CONFIG": second})

    def kill_other_when(self, there: Callable[[], object]) -> None:
        def watch() -> None:
            while not there() and self.other.poll() is None:
                time.sleep(0.02)
            self.killed = time.monotonic()
            self.other.kill()

        threading.Thread(target=watch, daemon=True).start()


@pytest.mark.slow
def test_a_lost_worker_ends_the_training_and_the_next_try_goes_on(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = {
        "ImpressionTransform": ("transformed_examples", "transform_graph"),
        "ImpressionGen": ("catalogue", "examples"),
    }
    inputs = {key: str(trained.artifact(node, key)) for node, keys in outputs.items() for key in keys}
    settings: dict[str, Any] = {"model.name": "dnn", "sampler.name": "in_batch", "training.epochs": 1}
    # Several calls of the graph in an epoch, with a checkpoint at each.
    settings |= {"training.batch_size": 64, "training.checkpoint_minutes": 1e-9}
    config = trained.config.with_overrides({**settings, "training.auc_fractions": 1})

    def progress() -> list[Path]:
        return list(tmp_path.glob("Trainer/checkpoint/*/progress.json"))

    job = Job("job-0", tmp_path, monkeypatch)
    job.kill_other_when(progress)
    with pytest.raises(WorkerFailed, match="another worker of this training has ended or cannot be reached"):
        launch(config, inputs, tmp_path)
    assert time.monotonic() - job.killed < 60
    assert not job.work.exists()
    (left_off,) = progress()
    position = json.loads(left_off.read_text())
    assert (position["epochs"], position["within_next"]["steps"] > 0) == ([], True)

    job = Job("job-1", tmp_path, monkeypatch)
    launch(config, inputs, tmp_path)
    assert job.other.wait(60) == 0
    assert f"Going on {position['within_next']['steps']} steps after epoch 0" in job.said.read_text()
    # The chief alone has written, and all of it.
    (model_run,) = tmp_path.glob("Trainer/model_run/*")
    epochs = json.loads((model_run / "epochs.json").read_text())
    assert [epoch["number"] for epoch in epochs] == [1]
    assert epochs[0]["seconds"] > position["within_next"]["seconds"]
    assert json.loads((model_run / "calibration.json").read_text())["scale"] != 1
    assert len(list(model_run.glob("events.*"))) == 1
    assert len(list(tmp_path.glob("Trainer/model/*/Format-Serving/saved_model.pb"))) == 1
    assert not progress()
    assert not job.work.exists()

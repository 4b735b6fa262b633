"""A training that was stopped in the middle, however it was, goes on at the next try; TFX's launcher runs both."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import Forks
from trained_run import SETTINGS, Trained
from trainer_launch import ending, fail, interrupt, launch

from ctr.pipeline.settings.pipeline_config import PipelineConfig

FOLDER = Path(__file__).parent
NOT_FOLLOWED = {"training.auc_fractions": 1, "training.profile_steps": 0}
"""Nothing is evaluated within an epoch, so that its first evaluation is its end."""


@pytest.fixture(scope="module")
def inputs(trained: Trained) -> dict[str, str]:
    outputs = {
        "ImpressionTransform": ("transformed_examples", "transform_graph"),
        "ImpressionGen": ("catalogue", "examples"),
    }
    return {key: str(trained.artifact(node, key)) for node, keys in outputs.items() for key in keys}


def only(root: Path, pattern: str) -> Path:
    (path,) = root.glob(pattern)
    return path


def epochs_of(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text())


def left_off(root: Path) -> list[dict[str, Any]]:
    return json.loads(only(root, "Trainer/checkpoint/*/progress.json").read_text())["epochs"]


def saved_state(root: Path) -> list[str]:
    import tensorflow as tf

    state = only(root, "Trainer/checkpoint/*/state-*.index")
    return [name for name, _ in tf.train.list_variables(str(state).removesuffix(".index"))]


def ended(root: Path) -> list[dict[str, Any]]:
    """Of the one training that came to its end; nothing is left of those that did not."""
    assert not list(root.glob("Trainer/checkpoint/*"))
    return epochs_of(only(root, "Trainer/model_run/*/epochs.json"))


def weights(saved: Path) -> dict[str, np.ndarray]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(saved / "variables" / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name.startswith("weights/")}


def test_after_a_kill_it_becomes_the_model_that_it_would_have_been(
    trained: Trained, inputs: dict[str, str], forks: Forks, tmp_path: Path
) -> None:
    overrides = {"training.epochs": 2, "sampler.name": "streaming_frequency", "evaluation.bounds.auc.min": 0.55}
    assert all(f"{name}={value}" in SETTINGS for name, value in overrides.items())
    arguments = [json.dumps(overrides), json.dumps(inputs), str(tmp_path)]
    said = tmp_path / "said"
    forks.start(arguments, Path(os.devnull), said, script=FOLDER / "trainer_launch.py")
    assert forks.wait() == -signal.SIGKILL, said.read_text()[-3000:]
    (first,) = left_off(tmp_path)
    assert any("sampler/frequencies/gap" in name for name in saved_state(tmp_path))

    launch(trained.config.with_overrides(NOT_FOLLOWED), inputs, tmp_path)
    again = ended(tmp_path)
    assert [epoch["number"] for epoch in again] == [1, 2]
    # To the second: it was not trained once more.
    assert again[0] == first
    # The shared run trained the same in one go, in another process.
    whole = epochs_of(trained.artifact("Trainer", "model_run") / "epochs.json")
    # It stopped within its epochs to be judged, so that its losses were added up in other groups.
    losses, expected = ([epoch["train_loss"] for epoch in epochs] for epochs in (again, whole))
    assert losses == pytest.approx(expected, rel=1e-6)
    serving = only(tmp_path, "Trainer/model/*/Format-Serving")
    ours, theirs = weights(serving), weights(trained.artifact("Trainer", "model") / serving.name)
    assert ours.keys() == theirs.keys()
    assert ours
    for name, weight in theirs.items():
        np.testing.assert_array_equal(ours[name], weight, name)


def small(trained: Trained) -> PipelineConfig:
    return trained.config.with_overrides({"model.name": "dnn", "sampler.name": "random", **NOT_FOLLOWED})


def test_after_an_exception_and_ctrl_c_it_goes_on(trained: Trained, inputs: dict[str, str], tmp_path: Path) -> None:
    with ending(fail), pytest.raises(OSError, match="the disk is gone"):
        launch(small(trained), inputs, tmp_path)
    (first,) = left_off(tmp_path)
    # One with other settings starts from its own beginning and leaves this one alone.
    launch(small(trained).with_overrides({"training.epochs": 1}), inputs, tmp_path)
    assert left_off(tmp_path) == [first]
    other = only(tmp_path, "Trainer/model_run/*/epochs.json")
    assert epochs_of(other)[0]["seconds"] != first["seconds"]
    other.unlink()

    # It goes on with the second epoch, so the first that it trains is that one.
    with ending(interrupt, epoch=1), pytest.raises(KeyboardInterrupt):
        launch(small(trained), inputs, tmp_path)
    assert left_off(tmp_path) == [first]

    launch(small(trained), inputs, tmp_path)
    again = ended(tmp_path)
    assert [epoch["number"] for epoch in again] == [1, 2]
    assert again[0] == first


def test_a_checkpoint_belongs_to_inputs_and_parameters() -> None:
    from tfx.types.standard_artifacts import Examples, ModelRun

    from ctr.components.trainer.executor import checkpoint_folder

    def folder(number: int = 1, uri: str = "/data/1", run: int = 5, **parameters: str) -> str:
        examples, model_run = Examples(), ModelRun()
        examples.uri, examples.mlmd_artifact.id, model_run.uri = (
            uri,
            number,
            f"gs://bucket/root/Trainer/model_run/{run}",
        )
        # What ML Metadata writes down when it is asked for the artifact once more.
        examples.mlmd_artifact.last_update_time_since_epoch = run
        return checkpoint_folder({"examples": [examples]}, {"model_run": [model_run]}, {"settings": "{}", **parameters})

    assert folder(run=6) == folder()
    assert folder().startswith("gs://bucket/root/Trainer/checkpoint/")
    others = [folder(number=2), folder(uri="/data/2"), folder(settings='{"seed": 2}'), folder(code_sha256="1")]
    assert len({folder(), *others}) == 5

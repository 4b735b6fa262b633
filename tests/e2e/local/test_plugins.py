"""A model, an activation and a sampler from outside the tree, as docs/models.md and docs/samplers.md show them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from forks import Forks
from trained_run import Trained

from pipeline.settings.pipeline_config import load_preset

SCRIPT = Path(__file__).with_name("plugin_process.py")


def answer(out: Path) -> list[float]:
    found: list[float] = json.loads(out.read_text().splitlines()[-1])
    return found


def trained_in_a_process(step: Mapping[str, object], folder: Path, plugins: Path, forks: Forks) -> list[float]:
    asked, out, err = (folder / name for name in ("step.json", "out", "err"))
    asked.write_text(json.dumps(step))
    forks.start([str(asked)], out, err, script=SCRIPT, path=[plugins])
    assert forks.wait() == 0, err.read_text()[-3000:]
    return answer(out)


def reloaded_in_a_fresh_process(model: Path, folder: Path) -> list[float]:
    """Without this project, and without the plugin."""
    asked, out = folder / "reload.json", folder / "reloaded"
    asked.write_text(json.dumps({"reload": str(model)}))
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with out.open("w") as stream:
        subprocess.run(
            [sys.executable, str(SCRIPT), str(asked)], cwd=folder, env=environment, stdout=stream, check=True
        )
    return answer(out)


@pytest.mark.slow
def test_what_a_plugin_registers_is_trained_exported_and_served(
    trained: Trained, plugins: Path, forks: Forks, tmp_path: Path
) -> None:
    from pipeline.dag import create_pipeline

    config = load_preset(
        "demo",
        [
            "model.name=decay",
            "model.decay.rate=0.25",
            "model.activation=softsign",
            "sampler.name=subset",
            "sampler.subset.keep=1",
            "training.epochs=1",
        ],
        ["my_shop.ctr", "my_shop.subset"],
    ).with_overrides({"data": trained.config.data, "output": str(tmp_path / "output")})
    assert config.ingest == trained.config.ingest
    trainer = next(node for node in create_pipeline(config).components if node.id == "Trainer")
    data = {
        "ImpressionTransform": ("transformed_examples", "transform_graph"),
        "ImpressionGen": ("examples", "catalogue"),
    }
    artifacts = {key: str(trained.artifact(node, key)) for node, keys in data.items() for key in keys}
    made = {key: str(tmp_path / key) for key in ("model", "model_run")}
    step = {
        "exec_properties": dict(trainer.exec_properties),
        "artifacts": {**artifacts, **made},
        "folder": str(tmp_path),
    }

    in_memory = trained_in_a_process(step, tmp_path, plugins, forks)
    reloaded = reloaded_in_a_fresh_process(tmp_path / "model/Format-Serving", tmp_path)

    np.testing.assert_allclose(reloaded, in_memory, atol=1e-5)
    assert np.ptp(in_memory) > 1e-4
    (epoch,) = json.loads((tmp_path / "model_run/epochs.json").read_text())
    assert epoch["validation_auc"] > 0.55

"""The tutorial on a model of one's own, with an activation, a sampler, features and a metric from outside, too."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from block_files import first_rows
from forks import Forks
from pages import ROOT, write_package

from ctr.components.examples.shards import list_shards
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.runs import latest_output

TUTORIAL = ROOT / "docs/tutorials/add-a-model.md"
SCRIPT = Path(__file__).with_name("plugin_process.py")
FURTHER = ("my_shop.subset", "my_shop.fields", "my_shop.brier")
SETTINGS = (
    "model.activation=softsign",
    "sampler.name=subset",
    "sampler.subset.keep=1",
    "evaluation.bounds={auc: {min: 0.55, min_margin: null}, brier: {max: 0.9}}",
    "training.epochs=1",
    "ingest.targets_per_user=4",
)


def reloaded(model: Path, folder: Path) -> list[Any]:
    """In a fresh process, without this project and without the plugins."""
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(SCRIPT), "reload", str(model)]
    out = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    answers: list[Any] = json.loads(out.splitlines()[-1])
    return answers


@pytest.mark.slow
def test_what_plugins_register_is_ingested_trained_judged_and_served(log: Path, forks: Forks, tmp_path: Path) -> None:
    plugins, output, out, err = (tmp_path / name for name in ("plugins", "output", "out", "err"))
    plugins.mkdir()
    write_package(plugins)
    (shown,) = re.findall(r"^\.venv/bin/ctr (run .*)$", TUTORIAL.read_text(), re.MULTILINE)
    assert "--plugin my_shop.ctr" in shown
    changes = [*(f"--plugin={name}" for name in FURTHER), *(f"--set={setting}" for setting in SETTINGS)]
    run = [*shlex.split(shown), "--data", str(log), "--output", str(output), *changes]

    forks.start(run, out, err, script=SCRIPT, path=[plugins])
    assert forks.wait() == 0, err.read_text()[-3000:]

    def artifact(node: str, key: str) -> Path:
        return Path(latest_output(Layout(str(output)).metadata_db, "ctr", node, key))

    # The log to features, and their bounds.
    folder = artifact("ImpressionTransform", "transformed_examples")
    for split in ("train", "eval"):
        names = ("timestamp", "history_age", "history_hour", "candidate_item_id", "candidate_magnitude")
        for values in first_rows(list_shards(str(folder / f"Split-{split}")), names, 20):
            hours = (values["timestamp"][0] - np.array(values["history_age"]) + 8 * 3600) // 3600 % 24
            assert values["history_hour"] == hours.tolist()
            assert values["candidate_magnitude"] == [len(str(item)) - 1 for item in values["candidate_item_id"]]
    schema = (artifact("SchemaGen", "schema") / "schema.pbtxt").read_text()
    assert all(f'name: "{name}"' in schema for name in ("history_hour", "candidate_magnitude"))

    # Features to a model: what learns, is bounded, and answers.
    (epoch,) = json.loads((artifact("Trainer", "model_run") / "epochs.json").read_text())
    assert epoch["validation_auc"] > 0.55
    assert "Brier score" in out.read_text()
    in_memory = json.loads(out.read_text().splitlines()[-1])
    exported, at_another_hour, refusal = reloaded(artifact("Trainer", "model") / "Format-Serving", tmp_path)
    np.testing.assert_allclose(exported, in_memory, atol=1e-5)
    assert np.ptp(in_memory) > 1e-4
    assert not np.allclose(exported, at_another_hour, atol=1e-6)
    assert "history_hour at row 0, position 2 is 24, expected 0 to 23" in refusal

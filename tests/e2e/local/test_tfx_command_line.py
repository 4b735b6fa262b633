"""The pipeline file with TFX's own command line, as docs/command-line.md gives it."""

from __future__ import annotations

import json
import os
import re
import shlex
import sysconfig
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from trained_run import Trained

from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.runs import node_runs

ROOT = Path(__file__).parents[3]
COMMANDS = re.findall(
    r"^CTR_PRESET=my-run.yaml .venv/bin/tfx (.*)$", (ROOT / "docs" / "command-line.md").read_text(), re.MULTILINE
)


def run_ids(trained: Trained) -> set[str]:
    from ml_metadata.metadata_store import MetadataStore
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    store = MetadataStore(sqlite_metadata_connection_config(Layout(trained.config.output).metadata_db))
    return {context.name for context in store.get_contexts_by_type("pipeline_run")}


@pytest.mark.slow
def test_tfx_makes_a_pipeline_of_the_file_and_runs_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tfx.tools.cli.cli_main import cli_group

    preset = {
        "extends": "demo",
        "data": trained.config.data,
        "output": trained.config.output,
        "runner": "local",
        "training": {"epochs": 2, "auc_fractions": 2, "profile_steps": 2},
        "sampler": {"name": "streaming_frequency"},
        "evaluation": {"bounds": {"auc": {"min": 0.55, "min_margin": None}}},
    }
    (tmp_path / "my-run.yaml").write_text(yaml.safe_dump(preset))
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CTR_PRESET", str(tmp_path / "my-run.yaml"))
    monkeypatch.setenv("LOCAL_HOME", str(tmp_path / "tfx"))
    # The script runs in a process of its own: on this checkout's code.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # As activating the environment does.
    monkeypatch.setenv("PATH", f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
    before = run_ids(trained)

    for command in COMMANDS:
        done = CliRunner().invoke(cli_group, shlex.split(command))
        assert done.exit_code == 0, done.output

    created = json.loads((tmp_path / "tfx" / "ctr" / "pipeline_args.json").read_text())
    assert created["pipeline_name"] == "ctr"
    (started,) = run_ids(trained) - before
    nodes = node_runs(Layout(trained.config.output).metadata_db, "ctr", started)
    assert {node.node for node in nodes} == set(trained.result.usage)
    assert all(node.succeeded for node in nodes)
    # TFX's own runs and those of ctr share their cache. (What is judged depends on what was blessed meanwhile.)
    judged = {"LastApproval", "LatestBlessedModel", "Evaluator", "Pusher", "RunReport"}
    assert {node.node for node in nodes if not node.cached} <= judged

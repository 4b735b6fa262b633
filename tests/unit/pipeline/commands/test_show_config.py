from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from ctr.pipeline.commands import cli
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

_HEAVY = ("tensorflow", "tfx", "apache_beam", "ml_metadata", "grpc", "numpy")


def test_configuration_loads_nothing_heavy() -> None:
    code = (
        "import sys; from ctr.pipeline.commands.cli import main; main(['show-config']); "
        f"sys.stderr.write(' '.join(m for m in {_HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_show_config_prints_yaml_that_is_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["show-config", "--preset", "sample", "--set", "training.epochs=2", "--data", "x.csv"])
    assert code == 0
    shown = PipelineConfig.from_json(json.dumps(yaml.safe_load(capsys.readouterr().out)))
    assert shown == load_preset("sample", ["training.epochs=2", "data=x.csv"])


def test_show_config_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show-config", "--preset", "sample", "--set", "training.epochs=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == load_preset("sample", ["training.epochs=2"]).model_dump(mode="json")


def test_every_wrong_field_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show-config", "--set", "training.epochs=0", "--set", "model.dropout=7"]) == 2
    printed = capsys.readouterr().err
    assert "training.epochs" in printed
    assert "model.dropout" in printed

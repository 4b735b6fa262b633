"""Logs of two years through one checkout: the window is a setting, and the schema follows it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from generator.behavior_log import generate
from generator.generator_config import GeneratorConfig
from pipeline.runners.kubeflow.step import StepRunner
from pipeline.settings.pipeline_config import load_preset

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("year", [2017, 2024])
def test_the_window_is_all_that_another_year_needs(year: int, tmp_path: Path) -> None:
    start = dt.datetime(year, 11, 25)
    log = tmp_path / "log.csv"
    generate(GeneratorConfig(users=60, start=start.date()), log)
    config = load_preset("demo").with_overrides(
        {
            "data": str(log),
            "output": str(tmp_path / "output"),
            "ingest.window_start": start.isoformat(),
            "ingest.window_end": (start + dt.timedelta(days=9, seconds=-1)).isoformat(),
        }
    )
    for node in ("ImpressionGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "AnomalyGate"):
        StepRunner(node, "one").run(config)
    assert list((tmp_path / "output" / "artifacts" / "AnomalyGate").rglob("APPROVED"))

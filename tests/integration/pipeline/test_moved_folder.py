"""A run in an output folder that was moved, of one step whose input lies elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from pipeline.runners.local import LocalRunner
from pipeline.settings.pipeline_config import PipelineConfig, load_preset

if TYPE_CHECKING:
    from tfx.orchestration.pipeline import Pipeline

pytestmark = pytest.mark.slow


def _schema_alone(config: PipelineConfig) -> Pipeline:
    from tfx.dsl.components.common.importer import Importer
    from tfx.types.standard_artifacts import Examples

    from components.examples.window import KEYS
    from components.schema.component import SchemaGen
    from components.schema.impression_schema import Ranges
    from pipeline.dag import _pipeline

    window = dict(zip(KEYS, config.ingest.window, strict=True))
    settings = Ranges.of(config.ingest).model_dump_json()
    examples = Importer(source_uri=config.data, artifact_type=Examples, custom_properties=window)
    return _pipeline(config, [examples, SchemaGen(examples=examples.outputs["result"], settings=settings)])


def _run(output: Path) -> tuple[str, str]:
    config = load_preset("demo").with_overrides({"data": str(output.parent / "data"), "output": str(output)})
    with mock.patch("pipeline.dag.create_pipeline", lambda config, *options: _schema_alone(config)):
        _, _, nodes = LocalRunner()._run_nodes(config, "schema")
    return nodes["SchemaGen"].state, nodes["SchemaGen"].outputs["schema"]


def test_a_run_goes_on_with_what_lies_in_the_folder_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    state, schema = _run(old)
    assert (state, Path(schema).parents[2]) == ("COMPLETE", old / "artifacts")
    os.rename(old, new)
    capfd.readouterr()

    state, schema = _run(new)
    assert (state, Path(schema).parents[2]) == ("CACHED", new / "artifacts")
    assert Path(schema, "schema.pbtxt").exists()
    said = capfd.readouterr().err
    assert f"The runs in this folder were made at {old}. It is now at {new}, and their 1 artifacts are taken" in said
    assert not old.exists()

    assert _run(new) == (state, schema)
    assert str(old) not in capfd.readouterr().err

"""A run in an output folder that was moved, of one step whose input lies elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ctr.pipeline.runners.local import LocalRunner
from ctr.pipeline.settings.pipeline_config import PipelineConfig, load_preset

pytestmark = pytest.mark.slow


def _schema_alone(config: PipelineConfig, data_must_exist: bool) -> SimpleNamespace:
    from tfx.dsl.components.common.importer import Importer
    from tfx.types.standard_artifacts import Examples

    from ctr.components.examples.window import KEYS
    from ctr.components.schema.component import SchemaGen
    from ctr.components.schema.impression_schema import Ranges

    window = dict(zip(KEYS, config.ingest.window, strict=True))
    settings = Ranges.of(config.ingest).model_dump_json()
    examples = Importer(source_uri=config.data, artifact_type=Examples, custom_properties=window)
    return SimpleNamespace(nodes=[examples, SchemaGen(examples=examples.outputs["result"], settings=settings)])


def _run(output: Path) -> tuple[str, str]:
    config = load_preset("demo").with_overrides({"data": str(output.parent / "data"), "output": str(output)})
    _, _, nodes = LocalRunner()._run_nodes(config, "schema", before_training=True)
    return nodes["SchemaGen"].state, nodes["SchemaGen"].outputs["schema"]


def test_a_run_goes_on_with_what_lies_in_the_folder_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctr.pipeline.dag._data_part", _schema_alone)
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

from __future__ import annotations

from pathlib import Path

import pytest

from ctr.components.files import absolute
from ctr.pipeline.output.layout import Layout


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("out/x") == str(tmp_path / "out" / "x")
    assert absolute("~/x") == str(Path.home() / "x")


def test_addresses_stay_as_they_are() -> None:
    assert absolute("gs://bucket/x") == "gs://bucket/x"
    assert absolute("") == ""


def test_a_model_has_a_folder_of_its_own() -> None:
    layout = Layout("/out")
    assert layout.model_base("ctr") == "/out/serving/ctr"
    assert len({layout.artifacts, layout.metadata_db, layout.logs, layout.serving}) == 4

from __future__ import annotations

from pathlib import Path

import pytest

from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.release import record
from ctr.pipeline.release.labels import Labels, ReleaseFile
from ctr.pipeline.release.record import Change
from ctr.serving.models_config import ModelConfig, read_models_config


def test_labels_go_forward_and_back() -> None:
    first = Labels(1, 1)
    tried = first.with_canary(2)
    stable = tried.promoted()
    assert [each.by_name() for each in (first, tried, stable)] == [
        {"stable": 1, "canary": 1},
        {"stable": 1, "canary": 2},
        {"stable": 2, "canary": 2, "previous": 1},
    ]
    assert tried.rolled_back() == first
    assert stable.rolled_back() == first
    assert first.rolled_back() is None
    # Two versions are in memory, never three.
    assert stable.with_canary(3).by_name() == {"stable": 2, "canary": 3}


def test_a_new_file_loads_the_labelled_versions_alone(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    file = ReleaseFile(str(path), "ctr", "/models/ctr")
    assert file.labels is None
    file.write(file.with_labels(Labels(2, 3, 1)))
    assert file.labels == Labels(2, 3, 1)
    labels = {"canary": 3, "previous": 1, "stable": 2}
    assert read_models_config(path) == (
        ModelConfig("ctr", Path("/models/ctr"), None, frozenset({1, 2, 3}), labels=labels),
    )
    again = ReleaseFile(str(path), "ctr", "/elsewhere")
    assert (again.labels, again.base_path) == (Labels(2, 3, 1), "/models/ctr")
    assert [each.name for each in tmp_path.iterdir()] == ["models.config"]


def test_other_models_and_labels_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text("""
        model_config_list {
          config { name: "cvr" base_path: "/models/cvr" model_platform: "tensorflow" }
          config {
            name: "ctr" base_path: "/models/ctr" model_platform: "tensorflow"
            version_labels { key: "stable" value: 5 }
            version_labels { key: "audit" value: 4 }
          }
        }
    """)
    file = ReleaseFile(str(path), "ctr", "/models/ctr")
    assert file.labels == Labels(5, 5)
    file.write(file.with_labels(Labels(5, 6), also_loaded=[7]))
    cvr, ctr = read_models_config(path)
    assert (cvr.latest, cvr.labels) == (1, {})
    assert (ctr.labels, ctr.specific) == ({"audit": 4, "canary": 6, "stable": 5}, {4, 5, 6, 7})


@pytest.mark.parametrize("text", ["model_config_list {", 'model_config_list { config { name: "ctr" } }'])
def test_a_file_that_servers_would_not_take_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(ConfigError, match=f"{tmp_path}/models.config: "):
        ReleaseFile(str(tmp_path / "models.config"), "ctr", "/models/ctr")


def test_changes_are_added_and_a_cut_line_is_named(tmp_path: Path) -> None:
    change = Change(
        time="2026-11-27T20:00:00+08:00",
        by="ann@host",
        action="canary",
        before={"stable": 1},
        after={"stable": 1, "canary": 2},
        reason="try it",
        verdict="blessed",
        execution="7",
    )
    assert record.read(str(tmp_path)) == []
    record.append(str(tmp_path), change)
    first = (tmp_path / record.RECORD_FILE).read_bytes()
    record.append(str(tmp_path), change.model_copy(update={"action": "promote"}))
    assert (tmp_path / record.RECORD_FILE).read_bytes().startswith(first)
    assert [each.action for each in record.read(str(tmp_path))] == ["canary", "promote"]
    with (tmp_path / record.RECORD_FILE).open("a") as file:
        file.write('{"time": "2026')
    with pytest.raises(CtrError, match=r"release\.jsonl, line 3: the line: invalid json"):
        record.read(str(tmp_path))

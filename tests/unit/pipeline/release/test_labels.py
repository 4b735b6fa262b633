from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from ctr.models.errors import ConfigError, CtrError
from ctr.pipeline.release import change, record
from ctr.pipeline.release.change import Versions, changing, described, move
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


WRITTEN = """\
# Who to call: ann.
model_config_list {
  config { name: "cvr" base_path: "/models/cvr" model_platform: "tensorflow" } # { not } ours
  config {
    name: "ctr"  # "clicks"
    base_path: "/models/" 'ctr'; model_platform: "tensorflow",
    # Two at a time.
    model_version_policy: <
      specific {
        versions: 5  # since May
        versions: 6
      }
    >
    version_labels { key: "stable" value: 5 }  # the old one
    version_labels { key: "canary" value: 6 };
    version_labels { key: "audit" value: 4 }
  }
  # The end.
}
"""


def test_a_file_is_changed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(WRITTEN)
    file = ReleaseFile(str(path), "ctr", "/models/ctr")
    file.write(file.with_labels(Labels(6, 6, 5)))
    assert (
        path.read_text()
        == """\
# Who to call: ann.
model_config_list {
  config { name: "cvr" base_path: "/models/cvr" model_platform: "tensorflow" } # { not } ours
  config {
    name: "ctr"  # "clicks"
    base_path: "/models/" 'ctr'; model_platform: "tensorflow",
    # Two at a time.
    # since May
    model_version_policy {
      specific {
        versions: 4
        versions: 5
        versions: 6
      }
    }
    version_labels {
      key: "canary"
      value: 6
    }
    version_labels {
      key: "previous"
      value: 5
    }
    version_labels {
      key: "stable"
      value: 6
    }
      # the old one
    version_labels { key: "audit" value: 4 }
  }
  # The end.
}
"""
    )
    assert ReleaseFile(str(path), "ctr", "").labels == Labels(6, 6, 5)
    # There and back is where it was, and another model gets an entry of its own.
    file.write(file.with_labels(Labels(5, 6)))
    once = path.read_text()
    file.write(file.with_labels(Labels(6, 6, 5)))
    file.write(file.with_labels(Labels(5, 6)))
    assert path.read_text() == once
    other = ReleaseFile(str(path), "third", "/models/third")
    other.write(other.with_labels(Labels(1, 1)))
    assert [model.name for model in read_models_config(path)] == ["cvr", "ctr", "third"]
    assert path.read_text().count("#") == WRITTEN.count("#")


@pytest.mark.parametrize(
    "text",
    [
        'model_config_list { config { name: "ctr" base_path: "/m" model_platform: "tensorflow" } }',
        'model_config_list: { config: { name: "ctr", base_path: "/m", model_platform: "tensorflow" # here\n} }',
        'model_config_list <\n config < name: "cvr" base_path: "/m" model_platform: "tensorflow" >\n>\n# the end',
    ],
)
def test_a_file_of_any_form_is_changed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.config"
    path.write_text(text)
    file = ReleaseFile(str(path), "ctr", "/models/ctr")
    file.write(file.with_labels(Labels(1, 2), also_loaded=[3]))
    again = ReleaseFile(str(path), "ctr", "")
    assert again.labels == Labels(1, 2)
    assert again.as_read() == file.as_read()
    assert path.read_text().count("#") == text.count("#")


def test_a_form_in_which_comments_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    text = 'model_config_list { config: [{ name: "ctr" base_path: "/m" model_platform: "tensorflow" }] }'
    path.write_text(f"{text} # mine")
    file = ReleaseFile(str(path), "ctr", "/models/ctr")
    with pytest.raises(ConfigError, match=r"models\.config: its comments could not be kept; write models as config {"):
        file.write(file.with_labels(Labels(1, 1)))
    assert path.read_text() == f"{text} # mine"
    path.write_text(text)
    file = ReleaseFile(str(path), "ctr", "/models/ctr")
    file.write(file.with_labels(Labels(1, 1)))
    assert ReleaseFile(str(path), "ctr", "").labels == Labels(1, 1)


@pytest.mark.parametrize("text", ["model_config_list {", 'model_config_list { config { name: "ctr" } }'])
def test_a_file_that_servers_would_not_take_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(ConfigError, match=f"{tmp_path}/models.config: "):
        ReleaseFile(str(tmp_path / "models.config"), "ctr", "/models/ctr")


def test_changes_are_added_and_a_cut_line_is_named(tmp_path: Path) -> None:
    made = Change(
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
    record.append(str(tmp_path), made)
    first = (tmp_path / record.RECORD_FILE).read_bytes()
    record.append(str(tmp_path), made.model_copy(update={"action": "promote"}))
    assert (tmp_path / record.RECORD_FILE).read_bytes().startswith(first)
    assert [each.action for each in record.read(str(tmp_path))] == ["canary", "promote"]
    with (tmp_path / record.RECORD_FILE).open("a") as file:
        file.write('{"time": "2026')
    with pytest.raises(CtrError, match=r"release\.jsonl, line 3: the line: invalid json"):
        record.read(str(tmp_path))


def test_the_record_says_what_has_happened_wherever_a_change_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(str(tmp_path), "ctr")
    file = versions.file()
    file.write(file.with_labels(Labels(1, 1)))
    made = described("canary", Labels(1, 1), Labels(1, 2), "try it", None)

    class Killed(BaseException):
        """Nothing after it runs in the process."""

    def killed(*_: object, **__: object) -> None:
        raise Killed

    def left_off_at(owner: object, name: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killed)
            # Nor does what would tidy up.
            patch.setattr(change, "settle", killed)
            with contextlib.suppress(Killed):
                move(versions, versions.file(), Labels(1, 2), made)
        return [each.reason for each in record.read(str(tmp_path))]

    # Before the labels move: no line, then or later.
    assert left_off_at(os, "replace") == []
    assert left_off_at(ReleaseFile, "write") == []
    with changing(versions):
        assert versions.file().labels == Labels(1, 1)
    assert record.read(str(tmp_path)) == []
    # Between the labels and the line, with half of a line on the disk: the next command writes the line.
    assert left_off_at(change, "settle") == []
    assert versions.file().labels == Labels(1, 2)
    with (tmp_path / record.RECORD_FILE).open("w") as cut:
        cut.write('{"time": "20')
    for _ in range(2):
        with changing(versions):
            assert [(each.action, each.reason) for each in record.read(str(tmp_path))] == [("canary", "try it")]
    # After the line, before the end.
    file = versions.file()
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", killed)
        with contextlib.suppress(Killed):
            move(versions, file, Labels(2, 2, 1), described("promote", Labels(1, 2), Labels(2, 2, 1), "", None))
    with changing(versions):
        assert [each.action for each in record.read(str(tmp_path))] == ["canary", "promote"]
    assert not [each.name for each in tmp_path.iterdir() if "intended" in each.name]


def test_a_change_that_fails_is_in_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions(str(tmp_path), "ctr")
    file = versions.file()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ReleaseFile, "write", full)
    with pytest.raises(OSError, match="No space left"):
        move(versions, file, Labels(1, 1), described("promote", None, Labels(1, 1), "", None))
    assert record.read(str(tmp_path)) == []
    assert not [each.name for each in tmp_path.iterdir() if "intended" in each.name]

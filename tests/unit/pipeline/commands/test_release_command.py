"""The command without a server: what it refuses, and what it leaves beside the versions."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from blessed_versions import version
from card_facts import make_evaluation

from ctr.components.blessing import BLESSING_FILE
from ctr.pipeline.commands.cli import main
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.leftovers import clear_all
from ctr.pipeline.release import record
from ctr.pipeline.release.change import Versions, changing
from ctr.pipeline.release.labels import Labels
from ctr.serving.models_config import read_models_config


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = tmp_path / "serving" / "ctr"
    for number in (1, 2, 3):
        version(base, number)
    return base


@pytest.fixture
def release(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> tuple[int, str]:
        code = main(["release", *arguments, "--output", str(tmp_path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def labels(base: Path) -> Labels | None:
    return Versions(str(base), "ctr").file().labels


def tried(base: Path, canary: int) -> None:
    """A canary as the command leaves it, whose comparison an integration test has."""
    file = Versions(str(base), "ctr").file()
    file.write(file.with_labels(Labels(1, canary)))


def test_a_version_is_promoted_and_taken_back_with_its_folder_gone(base: Path, release: Any) -> None:
    code, said = release("promote", "1", "--yes", "--reason", "the first")
    assert (code, labels(base)) == (0, Labels(1, 1))
    assert "promote: stable - -> 1, canary - -> 1" in said
    tried(base, 2)
    assert release("promote", "--yes")[0] == 0
    assert labels(base) == Labels(2, 2, 1)
    shutil.rmtree(base / "2")
    code, said = release("rollback", "--reason", "clicks fell")
    assert code == 0, said
    assert labels(base) == Labels(1, 1)
    found = record.read(str(base))
    assert [(each.action, each.reason) for each in found] == [
        ("promote", "the first"),
        ("promote", ""),
        ("rollback", "clicks fell"),
    ]
    assert found[2].before == {"stable": 2, "canary": 2, "previous": 1}
    assert found[0].verdict == "blessed, 1 of 1 bounds met, AUC 0.8912 [0.8812, 0.9112] on contemporaneous negatives"
    assert "nothing to go back to" in release("rollback")[1]
    assert len(record.read(str(base))) == 3


def test_a_canary_is_taken_back_first(base: Path, release: Any) -> None:
    tried(base, 2)
    assert release("rollback")[0] == 0
    assert labels(base) == Labels(1, 1)


def spoil(base: Path, how: str) -> None:
    folder = base / "2"
    if how == "copied":
        (folder / BLESSING_FILE).unlink()
    elif how == "not blessed":
        shutil.rmtree(folder)
        version(base, 2, verdict=make_evaluation(blessed=False).verdict)
    elif how == "another model":
        shutil.rmtree(folder)
        version(base, 2, served_model_name="cvr")
    elif how == "changed":
        (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"others")
    elif how == "cut":
        (folder / "saved_model.pb").unlink()
    elif how == "gone":
        shutil.rmtree(folder)
    else:
        (folder / BLESSING_FILE).write_text("{}")


@pytest.mark.parametrize("action", ["canary", "promote"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("copied", "2: nothing says that this version was blessed, blessing.json is missing. It was copied there by"),
        ("not blessed", "2: its blessing.json says that it was not blessed"),
        ("another model", "2: was pushed as model 'cvr', and this is model 'ctr'"),
        ("changed", "variables.data-00000-of-00001: was changed since it was pushed; it is not the model that"),
        ("cut", "saved_model.pb: cannot be read: No such file or directory"),
        ("gone", "2: no such version"),
        ("unreadable", "blessing.json: cannot be read: "),
    ],
)
def test_a_version_that_was_not_blessed_gets_no_label(
    base: Path, release: Any, action: str, how: str, says: str
) -> None:
    release("promote", "1", "--yes")
    if action == "promote":
        tried(base, 2)
    before = labels(base)
    spoil(base, how)
    code, said = release(action, "2", "--yes")
    assert code == 1
    assert says in said
    assert labels(base) == before
    assert len(record.read(str(base))) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["canary"], 2, "release canary: name the VERSION"),
        (["rollback", "1"], 2, "release rollback: takes no VERSION"),
        (["canary", "2", "--yes"], 1, "no version is stable yet; 'release promote VERSION' makes the first one so"),
        (["promote"], 1, "no version is stable yet; name the one that is to be"),
        (["rollback"], 1, "nothing to go back to"),
        (["status", "--model", "other"], 1, "no such folder"),
        (["promote", "1"], 1, "not asked, as there is no terminal: give --yes to move labels (promote: stable - -> 1,"),
    ],
)
def test_what_cannot_be_meant_is_said_and_nothing_is_left(
    base: Path, release: Any, arguments: list[str], code: int, says: str
) -> None:
    found = release(*arguments)
    assert (found[0], says in found[1]) == (code, True), found
    assert labels(base) is None
    assert record.read(str(base)) == []


def test_a_canary_is_another_than_the_stable_and_promoted_by_its_name(base: Path, release: Any) -> None:
    release("promote", "1", "--yes")
    assert "version 1 is stable already" in release("canary", "1", "--yes")[1]
    assert "there is no canary to promote, version 1 is stable" in release("promote", "--yes")[1]
    tried(base, 2)
    assert "version 2 is canary already" in release("canary", "2", "--yes")[1]
    assert "version 3 is not the canary, version 2 is" in release("promote", "3", "--yes")[1]
    code, said = release("canary", "3", "--max-psi", "-1")
    assert (code, "max_psi: must be at least 0" in said) == (2, True), said


def test_a_version_is_loaded_under_the_labels_in_force(base: Path, release: Any) -> None:
    release("promote", "1", "--yes")
    assert release("canary", "2", "--load-only")[0] == 0
    (model,) = read_models_config(base / "models.config")
    assert (model.specific, model.labels) == ({1, 2}, {"canary": 1, "stable": 1})
    assert len(record.read(str(base))) == 1
    assert "--load-only: goes with canary" in release("promote", "--load-only")[1]
    (base / "3" / BLESSING_FILE).unlink()
    assert "nothing says that this version was blessed" in release("canary", "3", "--load-only")[1]


def test_a_person_is_asked(base: Path, release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for typed, code in (("n\n", 1), ("\n", 1), ("y\n", 0)):
        terminal = io.StringIO(typed)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        found, said = release("promote", "1")
        assert found == code
        assert "promote: stable - -> 1, canary - -> 1? [y/N]" in said
    assert labels(base) == Labels(1, 1)


def test_two_releases_at_once_are_one_after_the_other(base: Path, release: Any) -> None:
    with changing(Versions(str(base), "ctr")):
        code, said = release("promote", "1", "--yes")
        assert code == 1
        assert "another release is under way: " in said
        assert ", process " in said
        assert release("status")[0] == 0
    assert release("promote", "1", "--yes")[0] == 0


def test_a_dry_run_and_json(base: Path, release: Any) -> None:
    code, said = release("promote", "1", "--dry-run", "--json")
    document = json.loads(said)
    assert (code, document["moved"], document["after"]) == (0, False, {"stable": 1, "canary": 1})
    assert labels(base) is None
    release("promote", "1", "--yes")
    (base / "2" / BLESSING_FILE).unlink()
    (base / "7").mkdir()
    status = json.loads(release("status", "--json")[1])
    assert status["labels"] == {"stable": 1, "canary": 1}
    versions = {each["version"]: each for each in status["versions"]}
    assert {number: each["blessed"] for number, each in versions.items()} == {7: False, 3: True, 2: False, 1: True}
    assert versions[1]["labels"] == ["stable", "canary"]
    assert versions[1]["auc"]["value"] == 0.8912
    assert versions[1]["run_id"] is None
    assert "blessing.json is missing" in versions[2]["why_not"]
    table = " ".join(release("status")[1].split())
    assert "1 stable, canary yes 0.8912 [0.8812, 0.9112]" in table


def test_a_server_that_does_not_answer_keeps_a_label_where_it_is(base: Path, release: Any) -> None:
    release("promote", "1", "--yes")
    tried(base, 2)
    assert json.loads(release("status", "--json", "--server", "127.0.0.1:1")[1])["servers"]["127.0.0.1:1"]["error"]
    # Nothing new is to be loaded, so the file has the labels; that a server has not is said, and is an error.
    code, said = release("rollback", "--server", "127.0.0.1:1")
    assert code == 1
    assert "has the new labels, but not every server:" in said
    assert "no server reachable at 127.0.0.1:1" in said
    assert labels(base) == Labels(1, 1)


def test_cleaning_leaves_labels_record_and_every_version(base: Path, release: Any, tmp_path: Path) -> None:
    release("promote", "1", "--yes")
    before = sorted(path for path in base.rglob("*"))
    clear_all(Layout(str(tmp_path)))
    assert sorted(path for path in base.rglob("*")) == before
    assert {"models.config", "release.jsonl", "1", "2", "3"} <= {path.name for path in base.iterdir()}

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest
import tensorflow as tf

from ctr.components.locks import held
from ctr.components.pusher.publish import publish


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "assets").mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"weights" * 1000)
    (folder / "assets" / "item_vocabulary.txt").write_text("1\n2\n")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_version_is_the_time_and_holds_the_whole_model(tmp_path: Path, model_dir: Path) -> None:
    base = tmp_path / "serving" / "ctr"
    before = int(time.time())
    version = publish(str(model_dir), str(base))
    assert before <= version <= int(time.time())
    assert tree(base / str(version)) == tree(model_dir)
    assert os.listdir(base) == [str(version)]


def test_a_version_is_above_every_existing_one(tmp_path: Path, model_dir: Path) -> None:
    base = tmp_path / "serving"
    (base / "9999999999").mkdir(parents=True)
    (base / ".10000000005.incoming").mkdir()
    (base / "notes").mkdir()
    assert publish(str(model_dir), str(base)) == 10_000_000_006
    assert publish(str(model_dir), str(base)) == 10_000_000_007


def test_pushes_at_the_same_time_get_different_versions(tmp_path: Path, model_dir: Path) -> None:
    base, versions = tmp_path / "serving", []
    threads = [threading.Thread(target=lambda: versions.append(publish(str(model_dir), str(base)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(versions)) == 8
    assert sorted(os.listdir(base)) == sorted(map(str, versions))


def test_a_claim_that_was_cleared_before_it_was_locked_is_made_again(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[str] = []

    def clear_first(path: str) -> contextlib.AbstractContextManager[None]:
        if not cleared:
            cleared.append(path)
            os.rmdir(os.path.dirname(path))
        return held(path)

    monkeypatch.setattr("ctr.components.pusher.publish.held", clear_first)
    version = publish(str(model_dir), str(tmp_path / "serving"))
    assert len(cleared) == 1
    assert os.listdir(tmp_path / "serving") == [str(version)]


def test_a_watcher_never_sees_an_incomplete_version(tmp_path: Path, model_dir: Path) -> None:
    base = tmp_path / "serving"
    base.mkdir()
    for i in range(200):
        (model_dir / "assets" / f"{i}.txt").write_text("x" * i)
    whole, incomplete, done = tree(model_dir), [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            for name in os.listdir(base):
                if name.isdigit() and tree(base / name) != whole:
                    incomplete.append(name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(5):
        publish(str(model_dir), str(base))
    done.set()
    watcher.join()
    assert incomplete == []


def test_a_failing_copy_leaves_nothing(tmp_path: Path, model_dir: Path) -> None:
    base = tmp_path / "serving"
    first = publish(str(model_dir), str(base))
    (model_dir / "assets" / "gone").symlink_to(tmp_path / "missing")
    with pytest.raises(OSError, match=r"not pushed to .* the copy failed"):
        publish(str(model_dir), str(base))
    assert os.listdir(base) == [str(first)]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no saved_model\.pb"):
        publish(str(tmp_path / "empty"), str(tmp_path / "serving"))
    assert not (tmp_path / "serving").exists()


def test_on_a_remote_store_the_graph_comes_last(model_dir: Path) -> None:
    base = "ram://publish/ctr"
    version = publish(str(model_dir), base)
    files = [os.path.join(folder, name) for folder, _, names in tf.io.gfile.walk(f"{base}/{version}") for name in names]
    assert len(files) == len(tree(model_dir))
    assert max(files, key=lambda path: tf.io.gfile.stat(path).mtime_nsec) == f"{base}/{version}/saved_model.pb"
    assert publish(str(model_dir), base) > version


def test_on_a_remote_store_a_failing_copy_leaves_nothing(tmp_path: Path, model_dir: Path) -> None:
    base = "ram://publish/broken"
    (model_dir / "assets" / "gone").symlink_to(tmp_path / "missing")
    with pytest.raises(OSError, match="the copy failed"):
        publish(str(model_dir), base)
    assert tf.io.gfile.listdir(base) == []

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from ctr.components.examples.log_content import LogContent
from ctr.components.impression_gen import content
from ctr.components.impression_gen.content import hashed
from ctr.components.impression_gen.sources import find_logs

SHA256SUM = shutil.which("sha256sum") or "sha256sum"


def content_of(path: Path) -> LogContent:
    with hashed(str(path), find_logs(str(path)).files) as files:
        return LogContent(path=str(path), span=0, version=None, files=files())


def test_a_file_has_the_hash_that_sha256sum_prints(tmp_path: Path) -> None:
    file = tmp_path / "log.csv.gz"
    # More than one piece is read.
    file.write_bytes(os.urandom(3 * content._CHUNK + 7))
    printed = subprocess.check_output([SHA256SUM, str(file)], text=True).split()[0]
    found = content_of(file)
    assert found.digest == f"sha256:{printed}"
    assert [(f.name, f.size) for f in found.files] == [("log.csv.gz", file.stat().st_size)]


def test_a_folder_has_the_hash_of_what_sha256sum_prints(tmp_path: Path) -> None:
    names = ["a.csv", "b.csv", "c.csv/part-0.csv"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    printed = subprocess.check_output([SHA256SUM, *names], cwd=tmp_path)
    found = content_of(tmp_path)
    assert found.digest == f"sha256:{hashlib.sha256(printed).hexdigest()}"
    assert [f.name for f in found.files] == names
    assert found.size == sum(map(len, names))
    # It is the content that counts, where it lies and when it was written does not.
    os.utime(tmp_path / "a.csv", (1, 1))
    os.rename(tmp_path, tmp_path.with_name("elsewhere"))
    assert content_of(tmp_path.with_name("elsewhere")).digest == found.digest
    (tmp_path.with_name("elsewhere") / "a.csv").write_text("a.csw")
    assert content_of(tmp_path.with_name("elsewhere")).digest != found.digest


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "log\udcff.csv").write_bytes(b"1")
    found = content_of(tmp_path)
    found.write(str(tmp_path / "catalogue"))
    assert LogContent.read(str(tmp_path / "catalogue")) == found


def test_a_block_that_fails_does_not_wait_for_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = threading.Event()

    class Zeros:
        def __enter__(self) -> Zeros:
            return self

        def __exit__(self, *_: object) -> None:
            endless.set()

        def read(self, size: int) -> bytes:
            return bytes(size)

    (tmp_path / "log.csv").touch()
    monkeypatch.setattr(content, "open", lambda *_: Zeros(), raising=False)
    with pytest.raises(RuntimeError, match="refused"), hashed("x", [str(tmp_path / "log.csv")]):
        raise RuntimeError("refused")
    assert endless.is_set()


def test_a_file_that_went_is_an_error_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.csv"), hashed("x", [str(tmp_path / "gone.csv")]) as files:
        files()

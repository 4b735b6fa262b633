from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctr.pipeline.commands import cli


def test_generate_writes_the_asked_log(tmp_path: Path) -> None:
    arguments = ["generate", "--users", "20", "--seed", "5"]
    clean, dirty = tmp_path / "new" / "clean.csv", tmp_path / "dirty.csv"
    assert cli.main([*arguments, "--output", str(clean)]) == 0
    assert cli.main([*arguments, "--output", str(dirty), "--dirt", "duplicate=3", "--crlf"]) == 0
    assert len(dirty.read_bytes().split(b"\r\n")) == len(clean.read_bytes().split(b"\n")) + 3


def test_generate_says_as_much_as_it_is_asked_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log.csv"
    arguments = ["generate", "--users", "20", "--output", str(file), "--dirt", "duplicate=3"]
    assert cli.main(arguments) == 0
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Generating a log of 20 users ...\n")
    rows = len(file.read_text().splitlines())
    assert f"{file}: {rows:,} rows of 20 users" in shown.err
    assert cli.main([*arguments, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert cli.main([*arguments, "--quiet", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["path"], document["rows"], document["users"]) == (str(file), rows, 20)
    assert document["dirt"]["duplicate"] == 3


def test_a_wrong_suffix_is_1_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "--users", "20", "--output", str(tmp_path / "x.txt")]) == 1
    assert "csv" in capsys.readouterr().err

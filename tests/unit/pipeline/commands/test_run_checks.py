from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctr.pipeline.commands import cli

_HEAVY = ("tensorflow", "tfx", "apache_beam", "ml_metadata", "grpc")


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_a_missing_log_ends_without_a_traceback(tmp_path: Path) -> None:
    done = _python("-m", "ctr", "run", "--data", str(tmp_path / "missing.csv"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["run", "sweep"])
@pytest.mark.parametrize(
    ("row", "preset", "says"),
    [
        ("1;2;3;pv;1511544070", "demo", "separated by semicolons"),
        ("1,2,3,pv,1511544070", "demo", "leave nothing for validation and eval"),
        (None, "demo", "transform.min_item_count: no item has 2 events"),
    ],
)
def test_a_log_that_cannot_be_used_is_1_before_anything_heavy_is_imported(
    command: str, row: str | None, preset: str, says: str, tmp_path: Path
) -> None:
    # Each item once: nothing for a vocabulary.
    rows = [row] if row else [f"{1 + i % 20},{10 + i},{1 + i % 4},pv,{1511540000 + 3000 * i}" for i in range(200)]
    log, output = tmp_path / "log.csv", tmp_path / "output"
    log.write_text("".join(f"{each}\n" for each in rows))
    code = (
        "import sys; from ctr.pipeline.commands import cli; "
        f"code = cli.main(['{command}', '--preset', '{preset}', '--data', {str(log)!r}, '--output', {str(output)!r}]); "
        f"print(code, [name for name in {_HEAVY!r} if name in sys.modules])"
    )
    done = _python("-c", code)
    assert done.stdout == "1 []\n"
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["run", "--set", "also_train=[dnn]"],
            "also_train: the other workers end with the first",
        ),
        (
            ["run", "--set", "tuner.space={model.dropout: [0.1, 0.2]}"],
            "tuner.space: a search trains in one process",
        ),
        (["run", "--set", "training.shard_tables=true"], "training.shard_tables: tables are sharded over the devices"),
        (["sweep", "--models", "dnn"], "sweep: each of its trials trains in one process, and"),
    ],
)
def test_what_several_workers_cannot_do_is_2_before_the_log_is_looked_at(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert cli.main([*arguments, "--data", "missing.csv"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"configuration: {says}")
    assert "TF_CONFIG names several workers; " in said


@pytest.mark.parametrize("command", [["run"], ["sweep", "--models", "dnn"], ["demo"]])
@pytest.mark.parametrize("problem", ["is a file, not a folder", "cannot be written to"])
def test_an_output_that_cannot_be_written_is_1(
    command: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("1,2,3,pv,1511658000\n")
    output = log
    if problem.startswith("cannot"):
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        output = tmp_path / "locked"
        output.mkdir(mode=0o500)
    data = [] if command == ["demo"] else ["--data", str(log)]
    assert cli.main([*command, *data, "--output", str(output / "below")]) == 1
    assert problem in capsys.readouterr().err

"""Every file of benchmarks/ runs at a tiny size, from a checkout, and prints what its docs promise.

What is measured here says nothing: the machine is busy and the sizes are far too small.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pages import PAGES, ROOT

RATIO = re.compile(r"\d+\.\d+")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Tiny(NamedTuple):
    """How a benchmark is run here.

    Attributes:
      arguments: of a run of seconds; {} is an empty folder.
      header: of the table that it prints.
      rows: first cells of its rows, "/" between them.
      ratio: the column of ratios; all of its cells are numbers.
      without_peer: what that column holds where the peer is not there.
      relative_to_first: whether the first row is what the others are measured by.
    """

    arguments: tuple[str, ...]
    header: str
    rows: tuple[str, ...]
    ratio: str
    without_peer: str = ""
    relative_to_first: bool = True


TINY_TRAINING = (
    *("--batches", "64", "--items", "1000", "--impressions", "128", "--rounds", "1", "--seconds", "0.1"),
    *("--devices", "cpu"),
)
TINY = {
    "compression": Tiny(
        ("{}/examples",),
        "| gzip level | bytes an impression | of those without | µs to write one | µs to read one |",
        ("none", "1", "2", "4", "6", "9"),
        "of those without",
    ),
    "ingest": Tiny(
        (
            "--millions",
            "0.01",
            "--workers",
            "1",
            "--folder",
            "{}",
            "--only",
            "ingest,without Beam,row at a time",
        ),
        "| rows | what | seconds | rows/s | ingest is faster by | peak memory, GB | output, MB | bytes an impression |",
        ("10,241/ingest", "10,241/without Beam", "10,241/row at a time"),
        "ingest is faster by",
    ),
    "imports": Tiny(
        # It fails where a step loads what it has no need of.
        ("--nodes", "RunReport", "StatisticsGen", "--rounds", "1"),
        "| step | CPU, s | relative to `import tensorflow` | loads |",
        ("import tensorflow", "RunReport", "StatisticsGen"),
        "relative to `import tensorflow`",
    ),
    "keras_choice": Tiny(
        ("--apis", "keras3-loop", "--strategies", "one", "--steps", "2"),
        "| API | strategy | loss, third round | equals one device | first round, s | third, s | first, ratio |",
        ("keras3-loop/one",),
        "first, ratio",
    ),
    "samplers": Tiny(
        (
            "--models",
            "dnn",
            "--samplers",
            "random",
            "mixed 0.5",
            "--rounds",
            "1",
            "--impressions",
            "256",
            "--batch-size",
            "64",
        ),
        "| model | sampler | impressions/s | relative to random |",
        ("dnn/random", "dnn/mixed 0.5"),
        "relative to random",
    ),
    "serving": Tiny(
        ("--serving", "{}/ctr", "--only", "rank,2,3,1", "--rounds", "1", "--seconds", "0.2", "--reload-seconds", "0"),
        "| asked | candidates | history | clients | side | p50, ms | p95 | p99 | answers/s | CPU ms an answer | "
        "of clients | memory, MB | p50, of the floor | answers/s, of the floor |",
        ("rank/2/3/-/floor", "rank/2/3/1/server"),
        "p50, of the floor",
    ),
    "serving_xla": Tiny(
        ("--models", "dnn", "--rows", "1", "--rounds", "1", "--seconds", "0.05"),
        "| model | rows | as exported, ms | compiled, ms | ratio | s to compile |",
        ("dnn/1",),
        "ratio",
        relative_to_first=False,
    ),
    "side_feature": Tiny(
        ("--users", "250", "--seeds", "1", "--model", "dnn"),
        "| left out | AUC | deviation | of the AUC with all |",
        ("nothing", "price and age", "all features"),
        "of the AUC with all",
    ),
    "training": Tiny(
        ("--models", "dnn", "--what", "step", "input", "whole", "resident", *TINY_TRAINING),
        "| model | batch | side | what | ms a step | pairs/s | relative to the first | of its own step |",
        tuple(f"dnn/64/default, cpu/{what}" for what in ("step", "input", "whole", "resident")),
        "relative to the first",
    ),
    "training_input": Tiny(
        ("--impressions", "300", "--items", "1000", "--batch", "32", "--shuffle-buffer", "100", "--repeat", "1"),
        "| | bytes an impression | impressions/s | relative to tf.Examples | CPU µs an impression | likewise |",
        ("tf.Examples", "blocks", "in random order", "bytes alone"),
        "relative to tf.Examples",
    ),
}
OF_OTHERS = {
    "ingest_by_row": "ingest",
    "ingest_peers": "ingest",
    "training_peers": "training",
    "turns": "training",
}
"""What is no benchmark but a work of one."""
COUNTS = {"step_operations"}
"""What measures no time, and so prints no ratio."""


def run(name: str, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


IN_A_PROCESS = {"compression", "keras_choice", "serving", "serving_xla", "training", "training_input"}
"""Run as the pages say; the others, whose imports take longer than they do, in this one."""
NOT_IN_THE_BUNDLE = ("tfx", "apache_beam", "tensorflow_transform", "tensorflow_serving", "grpc", "pyarrow", "yaml")
"""What ``benchmarks/gpu_bundle.sh`` leaves out, and ``training`` and ``training_input`` do without."""


@pytest.fixture
def run_here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run_file(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        code: Any = 0
        try:
            runpy.run_path(str(ROOT / f"benchmarks/{name}.py"), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        out, err = capfd.readouterr()
        if isinstance(code, str):
            # As Python does where a program ends with words.
            code, err = 1, err + code
        return subprocess.CompletedProcess([name, *arguments], code or 0, out, err)

    return run_file


def test_every_file_has_its_tiny_run() -> None:
    files = {file.stem for file in (ROOT / "benchmarks").glob("*.py")} - {"__init__"}

    assert files == TINY.keys() | OF_OTHERS.keys() | COUNTS


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_prints_its_ratios(name: str, tmp_path: Path, run_here: Run) -> None:
    tiny = TINY[name]
    if name == "compression":
        write_impressions(tmp_path / "examples")
    if name == "serving":
        write_model(tmp_path / "ctr/1")
    if name.startswith("training"):
        for package in NOT_IN_THE_BUNDLE:
            (tmp_path / f"{package}.py").write_text("raise ImportError(f'{__name__} is not in the bundle')")

    arguments = [argument.format(tmp_path) for argument in tiny.arguments]
    done = run(name, *arguments, path=str(tmp_path)) if name in IN_A_PROCESS else run_here(name, *arguments)

    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    first = lines.index(tiny.header)
    columns = [cell.strip() for cell in tiny.header.strip("|").split("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first + 2 :]]
    assert [len(row) for row in rows] == [len(columns)] * len(tiny.rows)
    named = 1 + tiny.rows[0].count("/")
    assert tuple("/".join(row[:named]) for row in rows) == tiny.rows
    ratios = [row[columns.index(tiny.ratio)] for row in rows]
    if tiny.without_peer:
        assert ratios == [tiny.without_peer] * len(rows)
    else:
        assert all(RATIO.fullmatch(ratio) and float(ratio) > 0 for ratio in ratios), ratios
        assert float(ratios[0]) == 1 or not tiny.relative_to_first
    if name == "side_feature":
        whole, without, nothing = (float(row[columns.index("AUC")]) for row in rows)
        assert whole > without + 0.02, "what price and age are worth"
        assert whole > nothing + 0.02


@pytest.mark.slow
def test_another_device_has_the_weights_that_the_first_one_trained() -> None:
    # Two processes of the same device, since a GPU is not there.
    sizes = (*TINY_TRAINING[:-1], "cpu", "cpu")

    done = run("training", "--models", "dnn", "--what", "logits", *sizes)

    assert done.returncode == 0, done.stderr[-3000:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[-2:]]
    (_, _, _, before, after, *_), (*_, off, _on, largest) = rows
    assert 0 < float(after) < float(before)
    assert float(off) < 1e-5 < float(largest)


@pytest.mark.slow
def test_a_step_is_fewer_operations_once_it_is_compiled(run_here: Run) -> None:
    done = run_here("step_operations", "--models", "dnn", "--batch", "8")

    assert done.returncode == 0, done.stderr[-3000:]
    row = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]
    assert row[0] == "dnn"
    assert 0 < int(row[2]) < int(row[1])


@pytest.mark.slow
def test_the_time_of_a_step_is_that_of_its_operations_and_what_lies_between() -> None:
    # In a process of its own, whose threads it sets.
    done = run("step_operations", "--models", "dnn", "--batch", "8", "--time")

    assert done.returncode == 0, done.stderr[-3000:]
    header, _, row = ([cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[-3:])
    whole, *parts = map(float, row[1:])
    assert whole == pytest.approx(sum(parts), abs=0.1)
    found = dict(zip(header[2:], parts, strict=True))
    assert all(found[kind] > 0 for kind in ("products", "elementwise", "rows", "update of what is dense"))
    assert found["others"] < 0.2 * whole


@pytest.mark.parametrize("work", ["statistics", "transform"])
def test_the_steps_that_follow_get_what_they_take(work: str, tmp_path: Path) -> None:
    """They run for half a minute each; the rest of them is what the pipeline's own tests run."""
    from benchmarks.ingest import next_step

    component, inputs, outputs = next_step(work, str(tmp_path / "ingest"), str(tmp_path), [])

    assert inputs.keys() == {key for key, slot in component.spec.INPUTS.items() if not slot.optional}
    assert outputs.keys() <= component.outputs.keys()


def write_impressions(folder: Path) -> None:
    import tensorflow as tf

    (folder / "Split-train").mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "Split-train/00000.gz"), "GZIP") as writer:
        for number in range(200):
            example = tf.train.Example()
            example.features.feature["history_item_id"].int64_list.value.extend(range(number, number + 50))
            writer.write(example.SerializeToString())


def write_model(folder: Path) -> None:
    import tensorflow as tf

    from ctr.models.impression import REQUEST_FEATURES

    class Zeros(tf.Module):
        @tf.function(input_signature=[{name: tf.TensorSpec([None, None], tf.int64, name) for name in REQUEST_FEATURES}])
        def rank(self, impression: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {"logit": tf.zeros_like(impression["candidate_item_id"], tf.float32)}

    module = Zeros()
    tf.saved_model.save(module, str(folder), signatures={"rank": module.rank})


def test_compression_without_impressions_says_so(tmp_path: Path, run_here: Run) -> None:
    done = run_here("compression", str(tmp_path))

    assert done.returncode == 1
    assert f"no impressions in {tmp_path}" in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        (
            "training",
            ["--peer", "deepctr=/no/python"],
            ["/no/python is no program", "pip install -r benchmarks/deepctr_2.15.txt"],
        ),
        ("training", ["--peer", "fuxictr=python"], ["no such peer", "there are deepctr, rechub, torch-dense"]),
        ("ingest", ["--only", "DuckDB"], ["No module named 'duckdb'", "pip install -r benchmarks/ingest_peers.txt"]),
        (
            "ingest",
            ["--only", "ingest,MIMN", "--peer", sys.executable],
            ["MIMN: give its preprocess/taobao_prepare.py"],
        ),
        ("ingest", ["--only", "transform"], ["name ingest before them"]),
        ("ingest", ["--only", "Spark"], ["Spark is not known"]),
        ("training", ["--devices", "gpu"], ["TensorFlow finds no GPU", "--devices cpu needs none"]),
    ],
)
def test_a_peer_that_is_missing_is_said_before_anything_runs(
    name: str, arguments: list[str], says: list[str], run_here: Run
) -> None:
    done = run_here(name, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert all(text in done.stderr for text in says), done.stderr


def test_a_side_that_fails_stops_the_benchmark_with_what_it_said(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'the peer is broken' >&2\nexit 3\n")
    broken.chmod(0o755)

    done = run("training", "--models", "din", "--peer", f"deepctr={broken}", *TINY_TRAINING)

    assert done.returncode == 1
    assert "the peer is broken" in done.stderr
    assert "ended with code 3 before it said READY" in done.stderr
    assert "| din" not in done.stdout


def test_the_bundle_takes_what_the_lock_names_and_an_empty_folder(tmp_path: Path) -> None:
    script = ROOT / "benchmarks/gpu_bundle.sh"
    lock = (ROOT / "requirements/tfx-1.21.lock").read_text()
    packages = re.findall("^packages='(.*?)'$", script.read_text(), re.MULTILINE | re.DOTALL)[0].split()
    (tmp_path / "kept").touch()

    done = subprocess.run([str(script), str(tmp_path)], capture_output=True, text=True, check=False)

    assert [name for name in packages if not re.search(f"^{re.escape(name)}==", lock, re.MULTILINE)] == []
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path} is not empty; give an empty folder\n")


def test_a_work_of_another_says_whose() -> None:
    # The other one says it after its imports, which take seconds.
    done = run("ingest_peers")

    assert done.returncode != 0
    assert f"-m benchmarks.{OF_OTHERS['ingest_peers']}" in done.stderr


def test_the_pages_run_benchmarks_in_the_one_way_that_works() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"python benchmarks/\w+\.py", text) == [], page.name
        named = set(re.findall(r"-m benchmarks\.([a-z_]+)", text))
        assert named <= TINY.keys() | COUNTS, page.name

"""Ingest: rows/s from CSV to written impressions, beside what else one could do, in the same run.

Each measurement is a process of its own (Beam's workers below it); its seconds are of the work, without the imports of
that process, and its memory is the largest sum over it and its children, shared pages counted once. Rows of the table:

* *ingest*: ``run_ingest`` with preset ``full`` and Beam's ``multi_processing`` mode, a worker a core.
* *one process*: the same with one worker in memory.
* *without Beam*: the same steps' DoFns called in a loop in one process; what *one process* takes more is Beam's.
* *row at a time*: Beam with a Python tuple a row and a ``tf.train.Example`` built in Python; as many impressions of the
  same shape, with negatives drawn anyhow.
* *statistics, transform*: the two steps of TFX that follow, on what *ingest* wrote, with the same workers.
* *DuckDB*, *Polars*: grouping, sorting and the histories of the same events, to Parquet, two threads; no negatives, no
  checks.
* *MIMN*: the paper's own preparation script (pandas), one sample a user.

The peers need an environment of their own, and MIMN's script (preprocess/taobao_prepare.py of its public repository):

    python3.10 -m venv peer-ingest && peer-ingest/bin/pip install -r benchmarks/ingest_peers.txt
    .venv/bin/python -m benchmarks.ingest --millions 1,5 --peer peer-ingest/bin/python --mimn taobao_prepare.py
    .venv/bin/python -m benchmarks.ingest --millions 20,100 --only ingest
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROWS_A_USER = 101
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore::FutureWarning"}
"""Libraries warn of the Python they run on at each import."""
HERE = Path(__file__).resolve().parent
ALL = ("ingest", "statistics", "transform", "one process", "without Beam", "row at a time", "DuckDB", "Polars", "MIMN")
COUNTED = ("ingest", "transform", "one process", "without Beam")
"""What writes as many impressions as the ingest."""
PEERS = {"DuckDB": "duckdb", "Polars": "polars", "MIMN": "pandas"}
"""The peers, and the package that each needs."""


# --- in the measured process -------------------------------------------------------------------------------------


def beam_flags(workers: int) -> list[str]:
    """Of Beam's own runner: so many processes, 0 for one a core, 1 for this one."""
    mode = "in_memory" if workers == 1 else "multi_processing"
    return [f"--direct_running_mode={mode}", f"--direct_num_workers={workers}"]


def ingest_config(settings: list[str]) -> Any:
    """The preset of the public file."""
    from ctr.pipeline.settings.pipeline_config import load_preset

    return load_preset("full", settings).ingest


def ingest(log: str, out: str, settings: list[str], flags: list[str]) -> float:
    """Runs the real ingest."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from ctr.components.direct_beam import keep_beam_here
    from ctr.components.impression_gen.build import run_ingest

    keep_beam_here()
    config = ingest_config(settings)
    start = time.perf_counter()
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        run_ingest(pipeline, [log], config, f"{out}/examples", f"{out}/catalogue", f"{out}/quarantine")
    return time.perf_counter() - start


def without_beam(log: str, out: str, settings: list[str]) -> float:
    """The DoFns of the ingest, with dictionaries for the groupings; counts are dropped."""
    import apache_beam as beam
    import numpy as np

    from ctr.components.examples.shards import unfinished_folder
    from ctr.components.impression_gen import build
    from ctr.components.impression_gen.counts import SECOND_COUNT, merge_counts
    from ctr.components.impression_gen.log_reader import list_tasks
    from ctr.components.impression_gen.sources import list_sources
    from ctr.components.impression_gen.spool import Spool

    config = ingest_config(settings)
    start = time.perf_counter()
    sources = list_sources([log])
    spool = Spool(unfinished_folder(f"{out}/examples"))

    def run(dofn: beam.DoFn, elements: Any, *side: Any) -> dict[str | None, list[Any]]:
        outputs = defaultdict(list)
        for element in elements:
            for made in dofn.process(element, *side):
                tagged = isinstance(made, beam.pvalue.TaggedOutput)
                outputs[made.tag if tagged else None].append(made.value if tagged else made)
        return outputs

    def grouped(pairs: list[tuple[int, Any]]) -> dict[int, list[Any]]:
        groups = defaultdict(list)
        for key, value in pairs:
            groups[key].append(value)
        return groups

    def joined(**sides: list[tuple[int, Any]]) -> list[tuple[int, dict[str, list[Any]]]]:
        groups = {name: grouped(pairs) for name, pairs in sides.items()}
        keys = sorted({key for pairs in groups.values() for key in pairs})
        return [(key, {name: pairs.get(key, []) for name, pairs in groups.items()}) for key in keys]

    tasks = [(t.source, t.block, t.start, t.end) for t in list_tasks(sources, config.block_megabytes << 20)]
    read = run(build.ReadAndParse(sources, config, spool), tasks)
    ordered = run(build.SortPartition(config, spool), grouped(read[None]).items())
    seconds = merge_counts(np.frombuffer(b"".join(ordered["seconds"]), SECOND_COUNT))
    timeline = build._timeline(seconds.tobytes(), config)
    counted = run(build.CountItems(config, spool), ordered[None], timeline)
    merged = run(build.MergeItems(config, spool), grouped(counted[None]).items())
    catalogue = build._make_catalogue(merged[None], f"{out}/catalogue", spool)
    asked = run(build.Ask(config, spool), ordered[None], timeline)
    by_time = joined(events=asked["events"], requests=asked["requests"])
    proposed = run(build.Propose(config, spool), by_time, timeline)
    by_user = joined(events=ordered[None], proposals=proposed[None])
    run(build.WriteImpressions(config, f"{out}/examples", spool), by_user, timeline, catalogue)
    spool.remove()
    return time.perf_counter() - start


def next_step(work: str, ingested: str, out: str, settings: list[str]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """StatisticsGen or Transform on what an ingest wrote: the component, and its inputs and outputs."""
    from tfx import types
    from tfx.components.util import examples_utils
    from tfx.proto import example_gen_pb2
    from tfx.types import artifact_utils, standard_artifacts
    from tfx.utils import io_utils

    from ctr.components.artifacts import ImpressionCatalogue
    from ctr.components.examples.writing import EXAMPLES_FILE_FORMAT
    from ctr.components.schema.component import SCHEMA_FILE
    from ctr.components.schema.impression_schema import Ranges, impression_schema
    from ctr.components.statistics.component import StatisticsGen
    from ctr.components.transform.component import ImpressionTransform
    from ctr.models.impression import SPLITS
    from ctr.pipeline.settings.pipeline_config import load_preset

    def artifact(kind: type[types.Artifact], uri: str) -> types.Artifact:
        made = kind()
        made.uri = uri
        return made

    config = load_preset("full", settings)
    examples = artifact(standard_artifacts.Examples, f"{ingested}/examples")
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, EXAMPLES_FILE_FORMAT)
    channel = types.Channel(standard_artifacts.Examples)
    inputs = {"examples": [examples]}
    if work == "statistics":
        component: Any = StatisticsGen(channel, config.statistics)
        outputs = {"statistics": artifact(standard_artifacts.ExampleStatistics, f"{out}/statistics")}
    else:
        schema = types.Channel(standard_artifacts.Schema)
        component = ImpressionTransform(channel, schema, types.Channel(ImpressionCatalogue), config.transform)
        (Path(out) / "schema").mkdir()
        made = impression_schema(Ranges.of(config.ingest), config.ingest.window)
        io_utils.write_pbtxt_file(f"{out}/schema/{SCHEMA_FILE}", made)
        inputs["schema"] = [artifact(standard_artifacts.Schema, f"{out}/schema")]
        inputs["catalogue"] = [artifact(ImpressionCatalogue, f"{ingested}/catalogue")]
        outputs = {
            "transform_graph": artifact(standard_artifacts.TransformGraph, f"{out}/graph"),
            "transformed_examples": artifact(standard_artifacts.Examples, f"{out}/transformed"),
        }
    return component, inputs, {key: [value] for key, value in outputs.items()}


def run_step(component: Any, inputs: dict[str, Any], outputs: dict[str, Any], out: str, flags: list[str]) -> float:
    """Runs what :func:`next_step` gave, by its executor."""
    from tfx.dsl.components.base import base_beam_executor

    context = base_beam_executor.BaseBeamExecutor.Context(tmp_dir=f"{out}/beam", beam_pipeline_args=flags)
    start = time.perf_counter()
    component.executor_spec.executor_class(context).Do(inputs, outputs, dict(component.exec_properties))
    return time.perf_counter() - start


def measured_here(options: argparse.Namespace) -> None:
    """Does one piece of work and prints its seconds."""
    if options.work in ("statistics", "transform"):
        ingested = str(Path(options.out).parent / "ingest")
        step = next_step(options.work, ingested, options.out, options.set)
        seconds = run_step(*step, options.out, beam_flags(options.workers))
    elif options.work == "without Beam":
        seconds = without_beam(options.log, options.out, options.set)
    elif options.work == "row at a time":
        from benchmarks.ingest_by_row import row_at_a_time

        seconds = row_at_a_time(options.log, options.out, ingest_config(options.set))
    else:
        workers = 1 if options.work == "one process" else options.workers
        seconds = ingest(options.log, options.out, options.set, beam_flags(workers))
    print(json.dumps({"seconds": seconds}))


# --- measuring -----------------------------------------------------------------------------------------------------


def measure(command: list[str], out: Path, cwd: Path = HERE.parent) -> dict[str, float]:
    """Runs a command: the seconds that its last line names, or else all, and the memory of it and its children.

    What it writes to standard error stands among the words of this process.

    Raises:
      SystemExit: if it fails.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **QUIET}
    start = time.perf_counter()
    with (out / "stdout").open("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, cwd=cwd, env=environment)
        tree, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            peak = max(peak, _memory(tree))
            # Asking takes a process of a gigabyte some 20 ms.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"error: this ended with code {process.returncode}: {shlex.join(command)}")
        printed.seek(0)
        last = printed.read().strip().rsplit("\n", 1)[-1]
    if last.startswith("{"):
        seconds = json.loads(last)["seconds"]
    written = sum(f.stat().st_size for f in out.rglob("*") if f.is_file() and f.name != "stdout")
    return {"seconds": seconds, "peak": peak, "bytes": written}


def _memory(process: psutil.Process) -> int:
    total = 0
    try:
        for each in [process, *process.children(recursive=True)]:
            total += each.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return total


def impressions_of(out: Path) -> int | None:
    """How many an ingest wrote."""
    summary = out / "catalogue/summary.json"
    return sum(json.loads(summary.read_text())["impressions"].values()) if summary.exists() else None


def python3_of_mimn(script: Path, folder: Path, log: Path) -> Path:
    """MIMN's script is for Python 2: converted by lib2to3 into ``folder``, where its paths lead to the log."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "taobao_prepare.py"
    text = script.read_text()
    # Integer division, and files of bytes.
    copy.write_text(
        text.replace("/256*256", "//256*256").replace("taobao_feature.pkl\",'w'", "taobao_feature.pkl\",'wb'")
    )
    subprocess.run([sys.executable, "-m", "lib2to3", "-wn", str(copy)], check=True, capture_output=True)
    # What lib2to3 leaves: a list of keys, and an iterator that is used twice.
    copy.write_text(
        copy.read_text()
        .replace("= zip(item_hist_list", "= list(zip(item_hist_list")
        .replace(", cate_hist_list)\n", ", cate_hist_list))\n")
        .replace("list(list(zip", "list((zip")
    )
    data = folder / "data/taobao_data"
    data.mkdir(parents=True, exist_ok=True)
    link = data / "UserBehavior.csv"
    link.unlink(missing_ok=True)
    link.symlink_to(log)
    return copy


def missing(works: Sequence[str], peer: str, mimn: Path | None) -> str:
    """What stands in the way of these works; nothing if nothing does."""
    unknown = [work for work in works if work not in ALL]
    if unknown:
        return f"--only: {', '.join(unknown)} is not known; there are {', '.join(ALL)}"
    if {"statistics", "transform"} & set(works) and "ingest" not in works:
        return "--only: statistics and transform read what ingest wrote; name ingest before them"
    peers = [work for work in works if work in PEERS]
    imports = "; ".join(f"import {PEERS[work]}" for work in peers)
    others = ",".join(work for work in ALL if work not in PEERS)
    if shutil.which(peer) is None or subprocess.run([peer, "-c", imports], check=False).returncode:
        return (
            f"{', '.join(peers)}: {peer} does not have what they need. Make an environment for them with\n"
            "  python3.10 -m venv peer-ingest && peer-ingest/bin/pip install -r benchmarks/ingest_peers.txt\n"
            f'and give --peer peer-ingest/bin/python, or measure without them: --only "{others}"'
        )
    if "MIMN" in works and (mimn is None or not mimn.is_file()):
        return f"MIMN: give its preprocess/taobao_prepare.py with --mimn (got {mimn}), or leave it out with --only"
    return ""


def make_log(folder: Path, millions: float) -> tuple[Path, int]:
    """The generated log of so many million rows, about; made once."""
    from ctr.generator.behavior_log import generate
    from ctr.generator.generator_config import GeneratorConfig

    users = round(millions * 1e6 / ROWS_A_USER)
    path, rows = folder / f"log-{users}.csv", folder / f"log-{users}.rows"
    if not rows.exists():
        rows.write_text(str(generate(GeneratorConfig(users=users), path).rows))
    return path, int(rows.read_text())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", default="1", help="rows of the logs, in millions")
    parser.add_argument("--only", help=f"some of {', '.join(ALL)}")
    parser.add_argument("--folder", type=Path, default=Path("output/benchmark-ingest"), help="for logs and output")
    parser.add_argument("--peer", default=sys.executable, help="the Python that has the peers")
    parser.add_argument("--mimn", type=Path, help="MIMN's preprocess/taobao_prepare.py")
    parser.add_argument("--workers", type=int, default=0, help="of Beam's multi-processing; 0 is one a core, 1 none")
    parser.add_argument("--rounds", type=int, default=1, help="take turns so often; medians")
    parser.add_argument("--set", action="append", default=[], help="a setting, e.g. ingest.user_partitions=128")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--log", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        measured_here(options)
        return
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    works = tuple(options.only.split(",")) if options.only else ALL
    if reason := missing(works, options.peer, options.mimn):
        parser.error(reason)
    print(
        "| rows | what | seconds | rows/s | ingest is faster by | peak memory, GB | output, MB | bytes an impression |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for millions in map(float, options.millions.split(",")):
        log, rows = make_log(folder, millions)
        results: dict[str, list[dict[str, float]]] = defaultdict(list)
        impressions: dict[str, int | None] = {}
        for _ in range(options.rounds):
            for work in works:
                out = folder / "out" / work.replace(" ", "-")
                if work in ("DuckDB", "Polars"):
                    window = map(str, ingest_config(options.set).window)
                    command = [options.peer, str(HERE / "ingest_peers.py"), work.lower(), str(log), str(out), *window]
                elif work == "MIMN":
                    script = python3_of_mimn(options.mimn, folder / "mimn", log)
                    command = [options.peer, str(script)]
                else:
                    settings = [f"--workers={options.workers}", *(f"--set={each}" for each in options.set)]
                    command = [
                        sys.executable,
                        "-m",
                        "benchmarks.ingest",
                        f"--work={work}",
                        f"--log={log}",
                        f"--out={out}",
                        *settings,
                    ]
                results[work].append(measure(command, out, folder / "mimn" if work == "MIMN" else HERE.parent))
                impressions[work] = impressions_of(out) or impressions.get("ingest")
                if work != "ingest":
                    shutil.rmtree(out)
        ours = statistics.median(r["seconds"] for r in results["ingest"]) if "ingest" in results else None
        for work, runs in results.items():
            seconds = statistics.median(r["seconds"] for r in runs)
            peak = max(r["peak"] for r in runs)
            written = runs[-1]["bytes"]
            count = impressions[work] if work in COUNTED else None
            print(
                f"| {rows:,} | {work} | {seconds:.1f} | {rows / seconds:,.0f} | {seconds / ours if ours else 0:.2f} "
                f"| {peak / 1e9:.2f} | {written / 1e6:,.0f} | {f'{written / count:.0f}' if count else ''} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

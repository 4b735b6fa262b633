"""Changes each copy of each fact, one at a time, and says what notices: a test, a type check, or nothing.

A fact (the kinds of negatives, a metric's name, the longest history) has one home. In copies of the tree this script
renames it at one place after the other, wherever a string of the source, a preset or the first cell of a table in
docs/ says it, and makes the further changes of the table below. Each must be noticed, or everything must follow it,
which the change's own check shows. By hand::

    .venv/bin/python tests/mutations.py                 # or: make mutations
    .venv/bin/python tests/mutations.py metrics window  # of these facts alone
    .venv/bin/python tests/mutations.py --list          # what would be changed

Exit code 1: a change was noticed by nothing, cannot be made any more, or came to no end.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing as mp
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("ctr", "pipeline", "components", "models", "serving", "generator")
NOT_COPIED = (".git", ".venv", "output", "shared", ".hypothesis", ".pytest_cache", ".ruff_cache", "build")
PRELOADED = ["pytest", "hypothesis", "tensorflow", "apache_beam", "tensorflow_transform", "tfx.v1"]
"""What takes long to import and is not changed. Each change is judged by a new process that has it already, and imports
of the tree what is changed."""
LIMIT = 300
"""Seconds of one change."""
NOT_NOTICED, UNKNOWN = "NOT NOTICED", "NOT KNOWN"
CONTEXT = mp.get_context("forkserver")
SETTLED = "pipeline/settings/test_pipeline_config.py"
DATASET = "components/dataset.py"
IMPRESSION, SETTINGS, METRIC_TABLE = "models/impression.py", "components/settings.py", "components/scoring/metrics.py"


def most_negatives_follow() -> None:
    """Of 300 negatives at most, a run may have 300."""
    from ctr.components.schema.impression_schema import Ranges
    from ctr.components.settings import IngestConfig

    ranges = Ranges.of(IngestConfig(evaluation_negatives=300, training_negatives={"uniform": 300}))
    assert ranges.candidates == 302


@dataclass(frozen=True)
class Fact:
    """What has one home.

    Attributes:
      tests: those that hold it, below tests/unit: few and fast.
      words: each is renamed wherever it stands.
      within: paths that are looked through, where the words mean other things elsewhere.
      other: paths where they do, likewise.
      edits: further changes: a file, what stands there, what is to.
      follows: what passes if everything has followed a further change, by what it puts there.
    """

    tests: Sequence[str]
    words: Sequence[str] = ()
    within: str = ""
    other: tuple[str, ...] = ()
    edits: Sequence[tuple[str, str, str]] = ()
    follows: dict[str, Callable[[], None]] = field(default_factory=dict)


def facts() -> dict[str, Fact]:
    """All, by name. They come from the tree itself, which the processes that judge must not import from here."""
    from ctr.components.scoring.metrics import METRICS
    from ctr.models.impression import BEHAVIORS, FEATURES, NEGATIVE_SETS, SPLITS
    from ctr.models.registry import ACTIVATIONS, MODELS
    from ctr.models.samplers.registry import SAMPLERS

    kinds = (MODELS, ACTIVATIONS, SAMPLERS)
    registered = {key for kind in kinds for name in kind for key in (name, *kind[name].settings)}
    served = re.findall(r': Final = "(\w+)"', (ROOT / "serving/signatures.py").read_text(encoding="utf-8"))
    return {
        "behaviours": Fact(
            ["models/test_impression.py", "generator/test_compare.py"],
            tuple(BEHAVIORS),
            edits=[(IMPRESSION, '"buy"]', '"buy", "share"]')],
        ),
        "negatives": Fact(
            [
                "models/test_impression.py",
                "models/samplers/test_sampler_config.py",
                "models/test_registration.py",
                SETTLED,
            ],
            NEGATIVE_SETS,
            edits=[
                (IMPRESSION, '"revisit"]', '"revisit", "nearby"]'),
                (IMPRESSION, '"uniform", "same_category"', '"same_category", "uniform"'),
                (IMPRESSION, 'MIXED: Final = "mixed"', 'MIXED: Final = "blend"'),
            ],
        ),
        "stored": Fact(
            ["models/test_impression.py"],
            ["all"],
            within="models/(negatives|samplers/)",
            edits=[("models/negatives.py", '["all",', '["all", "none",')],
        ),
        "splits": Fact(
            ["models/test_impression.py", SETTLED], SPLITS, edits=[(IMPRESSION, '"eval"]', '"eval", "test"]')]
        ),
        "features": Fact(
            ["models/test_impression.py", "schema", "serving/test_impressions.py"],
            tuple(FEATURES),
            within="models/|serving/|components/(schema|trainer|transform|examples)/",
            edits=[
                (IMPRESSION, '"history_age", "history"', '"history_age", "label"'),
                (
                    IMPRESSION,
                    "in FEATURES.values() if feature.group",
                    "in reversed(FEATURES.values()) if feature.group",
                ),
                (IMPRESSION, "HISTORY_FEATURES + CANDIDATE_FEATURES", "CANDIDATE_FEATURES + HISTORY_FEATURES"),
                (IMPRESSION, "smallest=0, largest=1)", "smallest=0, largest=2)"),
                (IMPRESSION, "largest=len(BEHAVIORS)", "largest=9"),
                (IMPRESSION, "largest=len(BEHAVIORS), embedding", "largest=9, embedding"),
            ],
        ),
        "match": Fact(
            ["models/layers/test_match.py", "baselines/test_compute.py"],
            ["item_seen", "category_recency"],
            edits=[("models/layers/match.py", '"item_seen",\n    "item_count",', '"item_count",\n    "item_seen",')],
        ),
        "signatures": Fact(
            ["serving/test_requests_and_warmup.py"],
            served,
            within="serving/|components/(trainer|evaluator)/|docs/serving",
        ),
        "metrics": Fact(
            ["scoring", "run_report", "pipeline/sweep/test_sweep_results.py", SETTLED],
            tuple(METRICS),
            edits=[(METRIC_TABLE, '"log loss", "lower"', '"log loss", "higher"')],
        ),
        "bounds": Fact(
            ["scoring/test_metric_table.py", "scoring/test_gate.py", SETTLED, "run_report", "evaluator"],
            ["max_drop", "min_margin"],
            edits=[
                (SETTINGS, "max: Bound | None = 0.99", "max: Bound | None = 0.95"),
                (SETTINGS, "max_drop: Drop | None = 0.005", "max_drop: Drop | None = 0.05"),
                (SETTINGS, "min_margin: Bound | None = 0.0", "min_margin: Bound | None = None"),
                (SETTINGS, "LOGISTIC_REGRESSION\n", "'best'\n"),
                (SETTINGS, "SETS: Final = (OVERALL, *EVALUATION_SETS)", "SETS: Final = (OVERALL,)"),
                (METRIC_TABLE, '"overall"', '"whole"'),
            ],
        ),
        "sizes": Fact(
            ["models/test_impression.py", "serving/test_impressions.py", "schema", SETTLED],
            edits=[
                (IMPRESSION, "MAX_HISTORY: Final = 1000", "MAX_HISTORY: Final = 2000"),
                ("docs/serving.md", "at most 1,000", "at most 2,000"),
                (SETTINGS, "le=MAX_HISTORY", "le=2000"),
                ("serving/impressions.py", "max_length=names.MAX_HISTORY", "max_length=2000"),
                (IMPRESSION, "MAX_NEGATIVES: Final = 100", "MAX_NEGATIVES: Final = 300"),
                (SETTINGS, "le=MAX_NEGATIVES", "le=300"),
                ("models/negatives.py", "le=MAX_NEGATIVES", "le=300"),
                ("components/schema/impression_schema.py", "= count.fewest, count.most", "= count.fewest, 2000"),
            ],
            follows={"MAX_NEGATIVES: Final = 300": most_negatives_follow},
        ),
        "window": Fact(
            [SETTLED, "schema", "impression_gen/test_refusals.py"],
            edits=[
                (DATASET, "dt.datetime(2017, 11, 25)", "dt.datetime(2017, 11, 24)"),
                (DATASET, "dt.datetime(2017, 12, 3, 23, 59, 59)", "dt.datetime(2017, 12, 4, 23, 59, 59)"),
                (SETTINGS, '"ingest.window_days")', '"ingest.window_day")'),
            ],
        ),
        "registrations": Fact(
            ["models/test_registration.py", "models/samplers/test_sampler_config.py", "pipeline/sweep", SETTLED],
            sorted(registered),
            other=("models/layers/transformer.py", IMPRESSION, "components/impression_gen/", "generator/"),
        ),
    }


class Change(NamedTuple):
    """Of one file, ``text`` being the whole of it afterwards."""

    fact: str
    file: str
    line: int
    old: str
    new: str
    text: str
    tests: Sequence[str]
    follows: Callable[[], None] | None = None

    def __str__(self) -> str:
        spelt = " -> ".join(" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.fact}: {self.file}:{self.line}: {spelt}"


def places(fact: Fact) -> Iterator[tuple[str, str, int, int]]:
    """Where a fact's words stand: a file, the word, from where to where."""
    forms = {".py": r'(?<=(?<!\w)"){}(?=")', ".yaml": r"(?<![\w.-]){}(?![\w.-])", ".md": r"(?<=^\| `){}(?=`)"}
    files = [file for folder in (*SOURCE, "docs") for file in sorted((ROOT / folder).rglob("*"))]
    for file in (file for file in files if file.suffix in forms):
        path, text = file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
        if re.match(fact.within, path) and not path.startswith(fact.other):
            for word in fact.words:
                for found in re.finditer(forms[file.suffix].format(word), text, flags=re.MULTILINE):
                    before = text[: found.start()]
                    docstring, comment = before.count('"""') % 2, "#" in before.rpartition("\n")[2]
                    if not (docstring if file.suffix == ".py" else comment):
                        yield path, word, found.start(), found.end()


def changes(name: str, fact: Fact) -> tuple[list[Change], list[str]]:
    """All of a fact, and what is no longer there to be changed."""
    made, gone = [], []
    found = list(places(fact))
    edits = [(path, start, end, word, f"{word}_too") for path, word, start, end in found]
    for path, old, new in fact.edits:
        start = (ROOT / path).read_text(encoding="utf-8").find(old)
        if start < 0:
            gone.append(f"{name}: {path}: {old!r}")
        else:
            edits.append((path, start, start + len(old), old, new))
    for path, start, end, old, new in edits:
        text = (ROOT / path).read_text(encoding="utf-8")
        line, after = text.count("\n", 0, start) + 1, text[:start] + new + text[end:]
        made.append(Change(name, path, line, old, new, after, fact.tests, fact.follows.get(new)))
    gone += [f"{name}: {word!r}, anywhere" for word in fact.words if word not in {word for _, word, *_ in found}]
    return made, gone


class Noticed:
    """A plugin of pytest that keeps the first that fails."""

    first = ""

    def _keep(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.failed and not self.first:
            self.first = report.nodeid.removeprefix("tests/unit/")

    pytest_collectreport = pytest_runtest_logreport = _keep


def noticed(change: Change) -> str:
    """What fails in the tree that is the working directory: a test or a type check; empty if nothing does."""
    first = Noticed()
    options = ["-qx", "-p", "no:cacheprovider", f"--basetemp={Path('../pytest').resolve()}"]
    code = pytest.main([*options, *(f"tests/unit/{test}" for test in change.tests)], plugins=[first])
    if code:
        return first.first or f"pytest: {code!r}"
    if change.file.endswith(".py"):
        # Of the search path that pytest leaves behind mypy would make installed packages, which it reads less of.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, "-m", "mypy"]
        checked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if checked.returncode:
            return "mypy: " + checked.stdout.partition("\n")[0]
    return ""


def judged(change: Change) -> str:
    """What becomes of a change that the working directory has."""
    if by := noticed(change):
        return f"noticed by {by}"
    if change.follows:
        with contextlib.suppress(Exception):
            change.follows()
            return "follows"
    return NOT_NOTICED


def judge(tree: Path, change: Change, verdict: Connection) -> None:
    """Runs in a process of its own, which has imported nothing of a tree, and sends what becomes of a change."""
    os.chdir(tree)
    sys.path[:] = [str(tree), *(path for path in sys.path if Path(path).resolve() not in (ROOT, ROOT / "tests"))]
    os.environ["PYTHONPATH"] = str(tree)
    with Path("../output.txt").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    said = judged(change)
    for module in sys.modules.values():
        file = Path(getattr(module, "__file__", None) or "/")
        if file != Path(__file__) and file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / ".venv"):
            said = f"{UNKNOWN}: {file} was imported, which the change is not in"
    verdict.send(said)


def verdict(tree: Path, number: int, change: Change) -> str:
    """What becomes of a change, which is made in a tree and taken back."""
    file = tree / change.file
    file.write_text(change.text, encoding="utf-8")
    # By its size and time, in seconds, Python and mypy know whether they have seen a file: no two are of one time.
    os.utime(file, (number, number))
    receives, sends = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=judge, args=(tree, change, sends))
    try:
        process.start()
        sends.close()
        return str(receives.recv()) if receives.poll(LIMIT) else f"{UNKNOWN}: no end after {LIMIT} s"
    except EOFError:
        return f"{UNKNOWN}: the process ended; the last line was {_last_line(tree.parent / 'output.txt')!r}"
    finally:
        process.kill()
        process.join()
        shutil.copy2(ROOT / change.file, file)


def _last_line(file: Path) -> str:
    return (file.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]


def preload() -> None:
    """Starts the process that those of all changes come from; what TensorFlow and others say meanwhile is not kept."""
    CONTEXT.set_forkserver_preload(PRELOADED)
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    forkserver.ensure_running()
    os.dup2(kept, 2)


def copies(folder: Path, number: int) -> SimpleQueue[Path]:
    """Of the tree, with what Python and mypy know about it, which spares each change a second look at the rest."""
    trees: SimpleQueue[Path] = SimpleQueue()
    for copy in range(number):
        tree = folder / str(copy) / "tree"
        # Links stay links: a change of what they lead to is seen through them.
        shutil.copytree(ROOT, tree, symlinks=True, ignore=lambda path, _: NOT_COPIED if Path(path) == ROOT else ())
        (tree / ".venv").symlink_to(ROOT / ".venv")
        trees.put(tree)
    return trees


def judge_all(
    made: Sequence[Change], trees: SimpleQueue[Path], pool: ThreadPoolExecutor
) -> Iterator[tuple[Change, str]]:
    """Each change with what becomes of it, as they end."""

    def one(number: int, change: Change) -> str:
        tree = trees.get()
        try:
            return verdict(tree, number, change)
        finally:
            trees.put(tree)

    running = {pool.submit(one, number, change): change for number, change in enumerate(made, start=1)}
    for future in as_completed(running):
        yield running[future], future.result()


def unchanged(fact: str, tests: Sequence[str]) -> Change:
    """No change, which nothing may notice."""
    file = Path("pyproject.toml")
    return Change(fact, str(file), 0, "", "", (ROOT / file).read_text(encoding="utf-8"), tests)


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes through the facts of these names, or all."""
    table = facts()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("facts", nargs="*", metavar="FACT", help=f"one or more of {', '.join(table)}; all if none")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at once (%(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="print the changes and make none")
    given = parser.parse_args(arguments)
    if strange := set(given.facts) - table.keys():
        parser.error(f"{', '.join(sorted(strange))}: there are {', '.join(table)}")

    chosen = {name: table[name] for name in given.facts or table}
    made, gone = [], []
    for name, fact in chosen.items():
        of_fact, gone_of_fact = changes(name, fact)
        made += of_fact
        gone += gone_of_fact
    if gone:
        print("No longer there; update tests/mutations.py:", *gone, sep="\n  ")
        return 1
    if given.list:
        print(*made, f"{len(made)} changes", sep="\n")
        return 0
    return run(chosen, made, given.jobs)


def run(chosen: dict[str, Fact], made: Sequence[Change], jobs: int) -> int:
    """Judges all and prints each; 1 if one was noticed by nothing."""
    # Its findings are copied, too.
    if subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, check=False).returncode:
        return 1
    preload()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        trees = copies(Path(folder), jobs)
        before = [unchanged(name, fact.tests) for name, fact in chosen.items()]
        noticed_before = [
            f"{change.fact}: before anything is changed: {said}"
            for change, said in judge_all(before, trees, pool)
            if said != NOT_NOTICED
        ]
        if noticed_before:
            print(*noticed_before, sep="\n")
            return 1
        counted = Counter[str]()
        for change, said in judge_all(made, trees, pool):
            print(f"{change}: {said}", flush=True)
            counted["noticed by mypy" if "by mypy: " in said else re.split(" by |:", said)[0]] += 1
    print(*(f"{number} {what}" for what, number in sorted(counted.items())), sep=", ")
    return int(bool(counted[NOT_NOTICED] or counted[UNKNOWN]))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())

"""Changes each copy of each fact, one at a time, and says what notices: a type check, a test, or nothing.

A fact (the kinds of negatives, a metric's name, the longest history) has one home. In a copy of the tree this script
renames it at one place after the other, wherever a string of the source, a preset or the first cell of a table in
docs/ says it, and makes the further changes of the table below. Each must be noticed, or everything must follow it,
which the change's own check shows. By hand; half an hour to an hour::

    .venv/bin/python tests/mutations.py                 # or: make mutations
    .venv/bin/python tests/mutations.py metrics window  # of these facts alone

Exit code 1: a change was noticed by nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ctr.components.scoring.metrics import METRICS  # noqa: E402
from ctr.models.impression import BEHAVIORS, FEATURES, NEGATIVE_SETS, SPLITS  # noqa: E402
from ctr.models.registry import ACTIVATIONS, MODELS  # noqa: E402
from ctr.models.samplers.registry import SAMPLERS  # noqa: E402

SOURCE = ("ctr", "pipeline", "components", "models", "serving", "generator")
SETTLED = "pipeline/settings/test_pipeline_config.py"
IMPRESSION, SETTINGS, METRIC_TABLE = "models/impression.py", "components/settings.py", "components/scoring/metrics.py"
REGISTERED = {key for kind in (MODELS, ACTIVATIONS, SAMPLERS) for name in kind for key in (name, *kind[name].settings)}
SERVED = re.findall(r': Final = "(\w+)"', (ROOT / "serving/requests.py").read_text(encoding="utf-8"))
FOLLOWS = """\
from ctr.components.schema.impression_schema import Ranges
from ctr.components.settings import IngestConfig
assert Ranges.of(IngestConfig(evaluation_negatives=300, training_negatives={"uniform": 300})).candidates == 302
"""


@dataclass(frozen=True)
class Fact:
    """What has one home.

    Attributes:
      tests: those that hold it, below tests/unit: few and fast.
      words: each is renamed wherever it stands.
      within: paths that are looked through, where the words mean other things elsewhere.
      other: paths where they do, likewise.
      edits: further changes: a file, what stands there, what is to, and what passes if all has followed.
    """

    tests: Sequence[str]
    words: Sequence[str] = ()
    within: str = ""
    other: tuple[str, ...] = ()
    edits: Sequence[tuple[str, ...]] = ()


FACTS = {
    "behaviours": Fact(
        ["models/test_impression.py", "generator/test_compare.py"],
        tuple(BEHAVIORS),
        edits=[(IMPRESSION, '"buy"]', '"buy", "share"]')],
    ),
    "negatives": Fact(
        ["models/test_impression.py", "models/samplers/test_sampler_config.py", "models/test_registration.py", SETTLED],
        NEGATIVE_SETS,
        edits=[
            (IMPRESSION, '"contemporaneous"]', '"contemporaneous", "nearby"]'),
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
    "splits": Fact(["models/test_impression.py", SETTLED], SPLITS, edits=[(IMPRESSION, '"eval"]', '"eval", "test"]')]),
    "features": Fact(
        ["models/test_impression.py", "schema", "serving/test_impressions.py"],
        tuple(FEATURES),
        within="models/|serving/|components/(schema|trainer|transform|examples)/",
        edits=[
            (IMPRESSION, '"history_age", "history"', '"history_age", "label"'),
            (IMPRESSION, "in FEATURES.values() if feature.group", "in reversed(FEATURES.values()) if feature.group"),
            (IMPRESSION, "HISTORY_FEATURES + CANDIDATE_FEATURES", "CANDIDATE_FEATURES + HISTORY_FEATURES"),
            (IMPRESSION, "smallest=0, largest=1)", "smallest=0, largest=2)"),
            (IMPRESSION, "largest=len(BEHAVIORS)", "largest=9"),
        ],
    ),
    "match": Fact(
        ["models/layers/test_match.py", "baselines/test_compute.py"],
        ["item_seen", "category_recency"],
        edits=[("models/layers/match.py", '"item_seen",\n    "item_count",', '"item_count",\n    "item_seen",')],
    ),
    "signatures": Fact(
        ["serving/test_requests_and_warmup.py"], SERVED, within="serving/|components/(trainer|evaluator)/|docs/serving"
    ),
    "metrics": Fact(
        ["scoring/test_metric_table.py", "run_report", "pipeline/sweep/test_sweep_results.py", SETTLED],
        tuple(METRICS),
        edits=[(METRIC_TABLE, '"log loss", "lower"', '"log loss", "higher"')],
    ),
    "bounds": Fact(
        ["scoring/test_metric_table.py", SETTLED, "run_report", "evaluator"],
        ["max_drop"],
        edits=[
            (SETTINGS, "max: Bound | None = 0.99", "max: Bound | None = 0.95"),
            (SETTINGS, "max_drop: Drop | None = 0.005", "max_drop: Drop | None = 0.05"),
            (SETTINGS, "SLICES = (OVERALL, *NEGATIVE_SETS)", "SLICES = (OVERALL,)"),
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
            (IMPRESSION, "MAX_NEGATIVES: Final = 100", "MAX_NEGATIVES: Final = 300", FOLLOWS),
            (SETTINGS, "le=MAX_NEGATIVES", "le=300"),
            ("models/negatives.py", "le=MAX_NEGATIVES", "le=300"),
            ("components/schema/impression_schema.py", "= count.fewest, count.most", "= count.fewest, 2000"),
        ],
    ),
    "window": Fact(
        [SETTLED, "schema", "impression_gen/test_refusals.py"],
        edits=[
            (SETTINGS, "dt.datetime(2017, 11, 25)", "dt.datetime(2017, 11, 24)"),
            (SETTINGS, "dt.datetime(2017, 12, 3, 23, 59, 59)", "dt.datetime(2017, 12, 4, 23, 59, 59)"),
            (SETTINGS, '"ingest.window_days")', '"ingest.window_day")'),
        ],
    ),
    "registrations": Fact(
        ["models/test_registration.py", "models/samplers/test_sampler_config.py", "pipeline/sweep", SETTLED],
        sorted(REGISTERED),
        other=("models/layers/transformer.py", IMPRESSION, "components/impression_gen/", "generator/"),
    ),
}


class Change(NamedTuple):
    """Of one file, ``text`` being the whole of it afterwards."""

    file: str
    line: int
    old: str
    new: str
    text: str
    follows: str = ""


def changes(fact: Fact) -> Iterator[Change]:
    """All of a fact."""
    forms = {".py": r'(?<=(?<!\w)"){}(?=")', ".yaml": r"(?<![\w.-]){}(?![\w.-])", ".md": r"(?<=^\| `){}(?=`)"}
    files = [file for folder in (*SOURCE, "docs") for file in sorted((ROOT / folder).rglob("*"))]
    for file in (file for file in files if file.suffix in forms):
        path, text = file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
        if re.match(fact.within, path) and not path.startswith(fact.other):
            for word in fact.words:
                for found in re.finditer(forms[file.suffix].format(word), text, flags=re.MULTILINE):
                    before, after = text[: found.start()], text[found.end() :]
                    docstring, comment = before.count('"""') % 2, "#" in before.rpartition("\n")[2]
                    if not (docstring if file.suffix == ".py" else comment):
                        new = f"{word}_too"
                        yield Change(path, before.count("\n") + 1, word, new, before + new + after)
    for path, old, new, *follows in fact.edits:
        before, there, after = (ROOT / path).read_text(encoding="utf-8").partition(old)
        if not there:
            raise SystemExit(f"{path}: {old!r} is no longer there; update {Path(__file__).name}")
        yield Change(path, before.count("\n") + 1, old, new, before + new + after, *follows)


def notices(tree: Path, tests: Sequence[str]) -> str:
    """What fails in a tree: a type check or a test; empty if nothing does."""
    checked = python(tree, "-m", "mypy")
    if checked.returncode:
        return "mypy: " + checked.stdout.partition("\n")[0]
    tested = python(tree, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *(f"tests/unit/{test}" for test in tests))
    if not tested.returncode:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/unit/)?(.*?)(?: - .*)?$", tested.stdout, flags=re.MULTILINE)
    return failed[1] if failed else f"pytest: {(tested.stderr or tested.stdout).strip().splitlines()[-1]}"


def python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Of the tree's environment, in the tree."""
    command = [str(tree / ".venv/bin/python"), *arguments]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


def verdict(tree: Path, tests: Sequence[str], change: Change) -> str:
    """What becomes of one change of the tree, which is taken back."""
    original = (tree / change.file).read_bytes()
    (tree / change.file).write_text(change.text, encoding="utf-8")
    try:
        if noticed := notices(tree, tests):
            return f"noticed by {noticed}"
        return "follows" if change.follows and not python(tree, "-c", change.follows).returncode else "NOT NOTICED"
    finally:
        (tree / change.file).write_bytes(original)


def main(names: Sequence[str]) -> int:
    """Goes through the facts of these names, or all."""
    if unknown := set(names) - FACTS.keys():
        raise SystemExit(f"{', '.join(sorted(unknown))}: there are {', '.join(FACTS)}")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in (*SOURCE, "benchmarks", "tests", "docs", "kubernetes"):
            shutil.copytree(ROOT / part, tree / part)
        for part in ("pyproject.toml", "README.md", "Dockerfile", "Makefile"):
            shutil.copy2(ROOT / part, tree / part)
        (tree / ".venv").symlink_to(ROOT / ".venv")
        for name in names or FACTS:
            if noticed := notices(tree, FACTS[name].tests):
                raise SystemExit(f"{name}: fails before anything is changed: {noticed}")
            for change in changes(FACTS[name]):
                said = verdict(tree, FACTS[name].tests, change)
                missed += said == "NOT NOTICED"
                spelt = " -> ".join(" ".join(text.split()) for text in (change.old, change.new))
                print(f"{name}: {change.file}:{change.line}: {spelt}: {said}", flush=True)
    print(f"{missed} noticed by nothing")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

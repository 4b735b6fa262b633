"""The wheel: what is in it, what it asks for, and that it ranks with the packages of ``serve-client`` alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import ctr
from ctr.serving.server import ModelServer

ROOT = Path(__file__).parents[3]
FILES = {
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("ctr/*"), *ROOT.glob("ctr/*/**/*"))
    if path.is_file() and "__pycache__" not in path.parts
}
_CTR = """
import sys
from importlib.metadata import entry_points

sys.path += [sys.argv.pop(1), sys.argv.pop(1)]
(ctr,) = entry_points(group="console_scripts", name="ctr")
sys.exit(ctr.load()())
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip would make of the wheel, which is built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("package")
    tree, unpacked = folder / "tree", folder / "unpacked"
    for name in ("ctr", *(link.name for link in ROOT.glob("ctr/*") if link.is_symlink())):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(tree)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / f"ctr_pipeline-{ctr.__version__}-py3-none-any.whl") as wheel:
        wheel.extractall(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def distribution(unpacked: Path) -> metadata.Distribution:
    (found,) = metadata.distributions(path=[str(unpacked)])
    return found


def needed(distribution: metadata.Distribution, extras: set[str]) -> Iterator[metadata.Distribution]:
    """What a package and those below it ask for, as it is installed here."""
    for requirement in map(Requirement, distribution.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found = metadata.distribution(requirement.name)
            yield from (found, *needed(found, requirement.extras))


@pytest.fixture(scope="module")
def packages(distribution: metadata.Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of ``serve-client`` and no others."""
    folder = tmp_path_factory.mktemp("packages")
    for each in {found.metadata["Name"]: found for found in needed(distribution, {"serve-client"})}.values():
        for file in each.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).symlink_to(str(each.locate_file(file)))
    return folder


def test_it_holds_the_tree_and_nothing_else(unpacked: Path, distribution: metadata.Distribution) -> None:
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert {name for name in found if ".dist-info/" not in name} == FILES
    assert {"ctr/py.typed", "ctr/pipeline/settings/presets/full.yaml", "ctr/models/din.py"} <= FILES
    assert distribution.read_text("licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize(("stack", "python"), [("tfx-1.16", "3.10"), ("tfx-1.21", "3.11"), ("tfx-1.21", "3.13")])
def test_it_asks_for_what_the_locks_are_made_of(distribution: metadata.Distribution, stack: str, python: str) -> None:
    lines = [
        line.split("#")[0].strip()
        for name in (stack, "project")
        for line in (ROOT / f"requirements/{name}.in").read_text(encoding="utf-8").splitlines()
        if not line.startswith("-r ")
    ]
    asked = set()
    for requirement in map(Requirement, distribution.requires or ()):
        marker, requirement.marker = requirement.marker, None
        if marker is None or marker.evaluate({"extra": "pipeline", "python_version": python}):
            asked.add(str(requirement))
    # Those that each stack brings by itself.
    assert asked - {"absl-py", "numpy"} == {str(Requirement(line)) for line in lines if line}


def run(unpacked: Path, packages: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``ctr`` in a process that has no packages but these."""
    command = [sys.executable, "-I", "-S", "-c", _CTR, str(unpacked), str(packages), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_its_client_ranks_without_tensorflow(
    shared_server: ModelServer, unpacked: Path, packages: Path, tmp_path: Path
) -> None:
    assert not (packages / "tensorflow").exists()
    event = {"item_id": 12, "category_id": 3, "behavior": "pv", "age_seconds": 3600}
    candidates = [{"item_id": 7, "category_id": 4}, {"item_id": 9, "category_id": 3}]
    (tmp_path / "impression.json").write_text(json.dumps({"history": [event], "candidates": candidates}))
    ask = ("predict", "--impression", "impression.json", "--port", str(shared_server.port), "--json")
    done = run(unpacked, packages, tmp_path, *ask)
    assert (done.returncode, done.stderr) == (0, "")
    ranking = json.loads(done.stdout)
    assert [(candidate["item_id"], candidate["logit"]) for candidate in ranking["candidates"]] == [(9, 1), (7, 0)]


def test_what_needs_more_says_so(unpacked: Path, packages: Path, tmp_path: Path) -> None:
    assert run(unpacked, packages, tmp_path, "show-config").stdout.startswith("preset: full")
    done = run(unpacked, packages, tmp_path, "generate", "--users", "20", "--output", "log.csv", "--quiet")
    says = "error: this command needs pyarrow, which is not installed; the package's extra 'pipeline' brings it\n"
    assert (done.returncode, done.stderr) == (1, says)

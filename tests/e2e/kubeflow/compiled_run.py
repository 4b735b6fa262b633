"""Runs the steps of a compiled package on this machine: their command lines, in the order of their dependencies.

What the backend does is done here: defaults, the run's id, placeholders, output files, one step after those it
depends on. What it asks Kubernetes for (image, resources, volumes) is not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
_PLACEHOLDER = re.compile(r"\{\{\$\.(inputs|outputs)\.(parameters|artifacts)\['(\w+)'\](?:\.(\w+))?\}\}")


@dataclass(frozen=True)
class Command:
    """One step's process.

    Attributes:
      argv: as the container would run it.
      cwd: an empty folder of its own.
      env: all of its environment.
      log: gets its output.
    """

    argv: list[str]
    cwd: Path
    env: dict[str, str]
    log: Path


Runner = Callable[[Command], int]
"""Runs a command and returns its exit code."""


@dataclass
class RunOutcome:
    """What came of a run.

    Attributes:
      codes: task -> exit code, in the order in which they ended; tasks that were not started are missing.
      logs: task -> what it wrote.
      outputs: task -> output parameter or artifact -> the file's content.
      seconds: of the whole run.
    """

    codes: dict[str, int] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: float = 0


def subprocess_runner(command: Command) -> int:
    """A fresh process."""
    with command.log.open("wb") as log:
        done = subprocess.run(
            command.argv,
            cwd=command.cwd,
            env=command.env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    return done.returncode


def step_environment(home: Path) -> dict[str, str]:
    """What the image sets: where ``python`` is, and where the project is."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home),
    }


def run_package(
    package: str, run_id: str, parameters: Mapping[str, Any], folder: Path, runner: Runner, parallel: int = 2
) -> RunOutcome:
    """Runs all tasks; after one that fails, what depends on it is not started.

    Args:
      package: what ``compile`` wrote.
      run_id: in place of the id that the backend gives.
      parameters: that a person sets.
      folder: for working directories, logs and output files.
      runner: runs one step.
      parallel: steps at a time.
    """
    spec, _ = yaml.safe_load_all(package)
    definitions = spec["root"]["inputDefinitions"]["parameters"]
    assert not set(parameters) - set(definitions)
    values = {name: d["defaultValue"] for name, d in definitions.items() if "defaultValue" in d} | dict(parameters)
    assert set(values) == set(definitions), "a parameter without a default was not given"

    outcome = RunOutcome()
    start = time.monotonic()
    waiting = dict(spec["root"]["dag"]["tasks"])
    running: dict[Future[int], tuple[str, Command, dict[str, Path]]] = {}
    with ThreadPoolExecutor(parallel) as pool:
        while True:
            for name, task in list(waiting.items()):
                ready = all(outcome.codes.get(upstream) == 0 for upstream in task.get("dependentTasks", ()))
                if ready and len(running) < parallel:
                    command, files = _command(spec, name, values, run_id, outcome, folder)
                    running[pool.submit(runner, command)] = (name, command, files)
                    del waiting[name]
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                name, command, files = running.pop(done)
                outcome.codes[name] = done.result()
                outcome.logs[name] = command.log.read_text(errors="replace")
                outcome.outputs[name] = {key: file.read_text() for key, file in files.items() if file.exists()}
    outcome.seconds = time.monotonic() - start
    return outcome


def _command(
    spec: dict[str, Any], name: str, values: Mapping[str, Any], run_id: str, outcome: RunOutcome, folder: Path
) -> tuple[Command, dict[str, Path]]:
    task = spec["root"]["dag"]["tasks"][name]
    component = spec["components"][task["componentRef"]["name"]]
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    inputs = {key: _value(source, values, run_id, outcome) for key, source in task["inputs"]["parameters"].items()}
    assert set(inputs) == set(component["inputDefinitions"]["parameters"])
    definitions = component.get("outputDefinitions", {})
    files = {
        key: folder / run_id / name / "outputs" / key
        for kind in ("parameters", "artifacts")
        for key in definitions.get(kind, {})
    }

    def fill(match: re.Match[str]) -> str:
        return inputs[match[3]] if match[1] == "inputs" else str(files[match[3]])

    home = folder / run_id / name
    (home / "work").mkdir(parents=True)
    files["executor output"] = home / "executor-output.json"
    whole = json.dumps({"outputs": {"outputFile": str(files["executor output"])}})
    argv = [
        _PLACEHOLDER.sub(fill, argument).replace("{{$}}", whole)
        for argument in (*container["command"], *container["args"])
    ]
    assert not any("{{" in argument for argument in argv)
    env = {**step_environment(home), **{pair["name"]: pair["value"] for pair in container.get("env", ())}}
    return Command(argv, home / "work", env, home / "log"), files


def _value(source: dict[str, Any], values: Mapping[str, Any], run_id: str, outcome: RunOutcome) -> str:
    if "componentInputParameter" in source:
        value = values[source["componentInputParameter"]]
    elif "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        value = outcome.outputs[output["producerTask"]][output["outputParameterKey"]]
    else:
        value = source["runtimeValue"]["constant"]
        assert value == "{{$.pipeline_job_uuid}}"
        value = run_id
    # Numbers as Go writes them: without an exponent, and whole ones without a point.
    return format(value, ".15g") if isinstance(value, float) else str(value)


class ForkingRunner:
    """Runs steps in processes forked from one that has imported what they need, which takes most of a step's time.

    Environment and working directory are each step's own all the same, and so is every module's state after its
    import.

    Args:
      tensorflow_alone: whether that one has imported nothing but TensorFlow, so that each step does the rest anew.
    """

    def __init__(self, tensorflow_alone: bool = False) -> None:
        self._server = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("forked_steps.py")),
                "tensorflow" if tensorflow_alone else "all",
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._writing = threading.Lock()

    def __call__(self, command: Command) -> int:
        """Forks, waits and returns the exit code."""
        assert self._server.stdin is not None
        assert command.argv[:3] == ["python", "-m", "ctr"]
        ended = command.cwd.with_name("ended")
        os.mkfifo(ended)
        files = {"log": str(command.log), "ended": str(ended)}
        request = {"arguments": command.argv[3:], "cwd": str(command.cwd), "env": command.env, **files}
        with self._writing:
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
        return int(ended.read_text())

    def close(self) -> None:
        """Ends the process that is forked from."""
        self._server.communicate(timeout=60)

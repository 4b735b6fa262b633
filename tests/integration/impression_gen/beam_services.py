"""Beam's job servers and a pool of its worker processes, each a process apart, on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

PROJECT: Final = Path(__file__).parents[3]
_PATIENCE: Final = 300.0


@dataclass(frozen=True)
class Service:
    """A started process and where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    folder: Path
    environment: Mapping[str, str]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def job_server(folder: Path) -> Iterator[Service]:
    """Beam's job server, which knows nothing of this project: it could not run a DoFn of it."""
    port_file = folder / "port"
    module = "apache_beam.runners.portability.local_job_service_main"
    arguments = ["--port_file", str(port_file), "--staging_dir", str(folder / "staging")]
    environment = _environment()
    process, log = _start([sys.executable, "-m", module, *arguments], environment, folder)
    with _stopped(process):
        deadline = time.monotonic() + _PATIENCE
        while not port_file.exists():
            _check_running(process, log, deadline)
            time.sleep(0.05)
        service = Service(process, int(port_file.read_text()), log, folder, environment)
        yield _ready(service)


@contextmanager
def prism(binary: Path, folder: Path) -> Iterator[Service]:
    """Prism, which runs jobs itself: a program in Go, to which a DoFn in Python is bytes."""
    from ports import free_port

    port, environment = free_port(), _environment()
    process, log = _start([str(binary), f"--job_port={port}", "--serve_http=false"], environment, folder)
    with _stopped(process):
        yield _ready(Service(process, port, log, folder, environment))


@contextmanager
def worker_pool(folder: Path) -> Iterator[Service]:
    """Beam's worker pool as it runs beside a Flink TaskManager: for each worker asked for, a process of its own."""
    # Not at the top: workers import this file, and not what lies beside the tests.
    from ports import free_port

    port = free_port()
    # The second is for what tests run in a worker.
    environment = {**_environment(), "PYTHONPATH": os.pathsep.join([str(PROJECT), str(Path(__file__).parent)])}
    module = "apache_beam.runners.worker.worker_pool_main"
    process, log = _start([sys.executable, "-m", module, f"--service_port={port}"], environment, folder)
    with _stopped(process):
        yield _ready(Service(process, port, log, folder, environment))


def note_process(path: str) -> None:
    """To be run by Beam: writes which process ran it, and which process started that one."""
    Path(path).write_text(f"{os.getpid()} {os.getppid()}")


def refuse(name: str) -> None:
    """To be run by Beam: fails as a step does."""
    raise ValueError(f"{name}: not a behaviour log")


def _environment() -> dict[str, str]:
    """This process's, with the interpreter that runs the tests first, and nothing of the project."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # The pool starts its workers as `python`.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    return {**kept, "PATH": path, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}


def _start(command: list[str], environment: Mapping[str, str], folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own, so that what it starts can be found and ended with it.
            start_new_session=True,
        )
    return process, log


@contextmanager
def _stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        # The pool leaves its workers at SIGTERM, and SIGINT is ignored by all that a shell started in the background.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ready(service: Service) -> Service:
    deadline = time.monotonic() + _PATIENCE
    with grpc.insecure_channel(service.address) as channel:
        ready = grpc.channel_ready_future(channel)
        while True:
            _check_running(service.process, service.log, deadline)
            try:
                ready.result(0.2)
            except grpc.FutureTimeoutError:
                continue
            return service


def _check_running(process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    if process.poll() is not None or time.monotonic() > deadline:
        raise RuntimeError(f"{process.args!r}: exit code {process.poll()}\n{log.read_text(errors='replace')}")

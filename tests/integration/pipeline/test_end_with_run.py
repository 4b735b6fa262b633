from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_RUN = """
import os, time
import apache_beam as beam
from ctr.components.direct_beam import keep_beam_here
from ctr.pipeline.process.endings import RUN_PROCESS

keep_beam_here()
os.environ[RUN_PROCESS] = str(os.getpid())
plugin = "--beam_plugin=ctr.pipeline.process.end_with_run"
arguments = ["--direct_running_mode=multi_processing", "--direct_num_workers=2", plugin]
with beam.Pipeline(argv=arguments) as pipeline:
    pipeline | beam.Create([1, 2]) | beam.Map(lambda _: (os.write(1, b"working\\n"), time.sleep(60)))
"""


def _workers(group: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            in_group = os.getpgid(int(folder.name)) == group
        except (OSError, ProcessLookupError):
            continue
        if in_group and b"sdk_worker_main" in name:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_beams_workers_end_with_a_run_that_is_killed() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", _RUN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert run.stdout is not None
    try:
        assert run.stdout.readline() == b"working\n"
        assert len(_workers(run.pid)) >= 2
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        end = time.monotonic() + 30
        while _workers(run.pid) and time.monotonic() < end:
            time.sleep(0.1)
        assert _workers(run.pid) == []
    finally:
        for process in _workers(run.pid):
            os.kill(process, signal.SIGKILL)
        run.stdout.close()


def test_beam_ends_before_tensorflow_whose_functions_it_keeps() -> None:
    code = "import sys, ctr.pipeline.dag; print([n for n in sys.modules if n in ('apache_beam', 'tensorflow')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Modules end in the reverse of this order; the other way round a run's last words were eight exceptions.
    assert done.stdout == "['tensorflow', 'apache_beam']\n"

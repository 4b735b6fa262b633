"""Imports what runs need, then forks a process for each request that it reads: see ``forks.py``."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
import traceback

import tfx.dsl.compiler.compiler
import tfx.orchestration.beam.beam_dag_runner
import tfx.orchestration.local.local_dag_runner
import tfx.orchestration.portable.launcher

import ctr.components.baselines.compute
import ctr.components.evaluator.executor
import ctr.components.impression_gen.executor
import ctr.components.pusher.publish
import ctr.components.statistics.executor
import ctr.components.trainer.executor
import ctr.components.transform.executor
import ctr.components.transform.preprocessing
import ctr.pipeline.dag
from ctr.__main__ import main


def _work(request: dict) -> int:
    os.setsid()
    # The tests may run in a shell's background, where it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    if request["slow_push"]:
        ctr.components.pusher.publish._flush = lambda folder: time.sleep(60)
    sys.path[:0] = request["path"]
    # Beam's workers, too, where they are processes.
    os.environ["PYTHONPATH"] = os.pathsep.join([*request["path"], os.environ["PYTHONPATH"]])
    sys.argv[1:] = request["arguments"]
    if not request["script"]:
        return main()
    runpy.run_path(request["script"], run_name="__main__")
    return 0


if __name__ == "__main__":
    assert tfx.dsl.compiler.compiler
    assert tfx.orchestration.beam.beam_dag_runner
    assert tfx.orchestration.local.local_dag_runner
    assert tfx.orchestration.portable.launcher
    assert ctr.pipeline.dag
    # What a DAG names and does not import.
    assert ctr.components.baselines.compute
    assert ctr.components.evaluator.executor
    assert ctr.components.impression_gen.executor
    assert ctr.components.pusher.publish
    assert ctr.components.statistics.executor
    assert ctr.components.trainer.executor
    assert ctr.components.transform.executor
    assert ctr.components.transform.preprocessing
    answers = os.dup(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = _work(json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.write(answers, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())

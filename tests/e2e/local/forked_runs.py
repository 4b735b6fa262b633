"""Imports what runs need, then forks a command for each request that it reads: see ``test_interrupted_runs.py``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import tfx.dsl.compiler.compiler
import tfx.orchestration.beam.beam_dag_runner
import tfx.orchestration.local.local_dag_runner
import tfx.orchestration.portable.launcher

import components.pusher.publish
import pipeline.dag
from pipeline.__main__ import _main


def _command(request: dict) -> int:
    os.setsid()
    # The tests may run in a shell's background, where it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    if request["slow_push"]:
        components.pusher.publish._flush = lambda folder: time.sleep(60)
    sys.argv[1:] = request["arguments"]
    return _main()


if __name__ == "__main__":
    assert tfx.dsl.compiler.compiler
    assert tfx.orchestration.beam.beam_dag_runner
    assert tfx.orchestration.local.local_dag_runner
    assert tfx.orchestration.portable.launcher
    assert pipeline.dag
    answers = os.dup(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = _command(json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        os.write(answers, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())

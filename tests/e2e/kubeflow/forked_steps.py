"""Imports what steps need, then forks a process for each request that it reads: see ``compiled_run.ForkingRunner``."""

from __future__ import annotations

import json
import os
import sys

import tfx.dsl.compiler.compiler
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
from ctr.pipeline.commands.cli import main


def _step(request: dict) -> int:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    code = main(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
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
                code = _step(json.loads(line))
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())

"""Imports what steps need, then forks a process for each request that it reads: see ``compiled_run.ForkingRunner``.

With ``tensorflow`` it imports that alone: a step imports TFX, Beam and all of this project as in a fresh process, and
does without what it does without there.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import tensorflow as tf

ALL = (
    "tfx.dsl.compiler.compiler",
    "tfx.orchestration.portable.launcher",
    "ctr.pipeline.dag",
    # What a DAG names and does not import.
    "ctr.components.baselines.compute",
    "ctr.components.evaluator.executor",
    "ctr.components.impression_gen.executor",
    "ctr.components.pusher.publish",
    "ctr.components.statistics.executor",
    "ctr.components.trainer.executor",
    "ctr.components.transform.executor",
    "ctr.components.transform.preprocessing",
)


def _step(request: dict) -> int:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    from ctr.pipeline.commands.cli import main

    code = main(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _run(request: dict) -> None:
    """Runs a step in a process of its own and tells who asked how it ended."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _step(request)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    Path(request["ended"]).write_text(str(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    tensorflow_alone = sys.argv[1:] == ["tensorflow"]
    for name in () if tensorflow_alone else ALL:
        importlib.import_module(name)
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not (tensorflow_alone and loaded & {"ctr", "tfx", "apache_beam"})
    # See graph_passes.py.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    running = []
    for line in sys.stdin:
        running.append(os.fork())
        if running[-1] == 0:
            try:
                _run(json.loads(line))
            finally:
                os._exit(0)
    for process in running:
        os.waitpid(process, 0)

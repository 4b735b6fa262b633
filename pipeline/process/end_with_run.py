"""Imported by a worker process of Beam's multi_processing mode as it starts: the worker ends with its run.

Beam's own worker waits for a run that was killed for ever. The import is the call: Beam imports what
``--beam_plugin`` names, and calls nothing in it. Nothing else imports this module.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading

from ctr.pipeline.process.endings import RUN_PROCESS


def _end_with(run: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        # Not a signal at the parent's death: Beam starts a worker through a shell, which lives on.
        select.select([os.pidfd_open(run)], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


if RUN_PROCESS in os.environ:
    threading.Thread(target=_end_with, args=[int(os.environ[RUN_PROCESS])], name="end-with-run", daemon=True).start()

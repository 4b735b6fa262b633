"""Processes of their own, forked from one that has imported TFX: that takes most of the time of a short one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ports import free_port

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 120


class Forks:
    """One process at a time: :meth:`start` it, then :meth:`wait` for it."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forked_runs.py"))],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @contextmanager
    def serving(self, words: Sequence[str], folder: Path) -> Iterator[list[str]]:
        """A command that serves, as soon as it does, on a free port: gives the words that name it."""
        said = folder / "serve.err"
        said.touch()
        port = ["--port", str(free_port())]
        process = self.start([*words, *port], folder / "serve.out", said)
        try:
            end = time.monotonic() + PATIENCE_SECONDS
            while "serving version" not in said.read_text():
                assert time.monotonic() < end, said.read_text()
                time.sleep(0.1)
            yield port
        finally:
            os.kill(process, signal.SIGTERM)
            assert self.wait() == 0

    def start(
        self,
        arguments: Sequence[str],
        out: Path,
        err: Path,
        *,
        script: Path | None = None,
        path: Sequence[Path] = (),
        slow_push: bool = False,
    ) -> int:
        """Starts a command of the pipeline, or a script.

        Args:
          arguments: its own.
          out: file for its output.
          err: file for what it says.
          script: in place of ``ctr``.
          path: folders from which it imports, too.
          slow_push: whether the Pusher stops before the last that it does.

        Returns:
          The process.
        """
        request = {
            "arguments": [*arguments],
            "out": str(out),
            "err": str(err),
            "script": str(script or ""),
            "path": [*map(str, path)],
            "slow_push": slow_push,
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """The exit code, or the signal below 0."""
        return self._answer()

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())

    def close(self) -> None:
        """Ends the process that is forked from."""
        self._server.communicate()

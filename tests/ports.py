"""Ports for what has to be told one before it starts."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """Below those that the system gives to whoever asks for any, so that nobody takes it before it is used."""
    while True:
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", random.randrange(20_000, 30_000)))  # noqa: S311
            port: int = tried.getsockname()[1]
            return port

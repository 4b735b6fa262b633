"""Whether what is being traced is compiled by XLA.

XLA compiles a step for shapes that it knows: what is traced for it may not ask how many events there are. Most of what
the models do is one formula for both; where one is cheap on a CPU and cannot be compiled, :func:`is_compiled` chooses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_COMPILED: ContextVar[bool] = ContextVar("compiled", default=False)


def is_compiled() -> bool:
    """Whether every shape has to follow from those of the inputs."""
    return _COMPILED.get()


@contextlib.contextmanager
def compiled() -> Iterator[None]:
    """Around what a function that is compiled traces, within that function."""
    token = _COMPILED.set(True)
    try:
        yield
    finally:
        _COMPILED.reset(token)

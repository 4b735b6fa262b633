"""Whether what is being traced is compiled by XLA.

XLA compiles a step for shapes that it knows: what is traced for it may not ask how many events there are. Most of what
the models do is one formula for both; where one is cheap on a CPU and cannot be compiled, :func:`is_compiled` chooses.
Where passes over memory are saved that XLA saves by itself, and that a GPU does not feel, :func:`is_on_cpu` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import tensorflow as tf

_COMPILED: ContextVar[bool] = ContextVar("compiled", default=False)


def is_compiled() -> bool:
    """Whether every shape has to follow from those of the inputs."""
    return _COMPILED.get()


def is_on_cpu() -> bool:
    """Whether it runs on a CPU, operation by operation."""
    return not is_compiled() and not tf.config.list_logical_devices("GPU")


@contextlib.contextmanager
def compiled() -> Iterator[None]:
    """Around what a function that is compiled traces, within that function."""
    token = _COMPILED.set(True)
    try:
        yield
    finally:
        _COMPILED.reset(token)

"""What a process leaves out when it imports TFX and Beam, because nothing in it will use it.

TFX and Beam import what they find installed and do without what they do not. Of the CPU time before a step's first line
of work these were a third, and looking for garbage among what stays for ever a fifth:
``python -m benchmarks.imports``.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Final

_BEAM: Final = "apache_beam"
_TFX_COMPONENTS: Final = "tfx.components"
"""TFX's own components, and so TensorFlow Model Analysis. No step here runs one: their executors stand in
``components/``."""
_GOOGLE: Final = ("google.cloud", "google.api_core", "apitools")
"""Clients of Google's cloud, which Beam uses for paths and runners there."""


@contextlib.contextmanager
def left_out(settings: str, beam: bool = False) -> Iterator[None]:
    """Imports in the block do without what the run has no use for, unless something has imported it before; nor is
    garbage looked for meanwhile, or later in what they made.

    Args:
      settings: the configuration of the run as JSON, which tells whether it is to reach Google's cloud.
      beam: whether Beam is of no use, too.
    """
    google = () if "gs://" in settings or "Dataflow" in settings else _GOOGLE
    packages = [name for name in (*google, _TFX_COMPONENTS, *([_BEAM] if beam else [])) if name not in sys.modules]
    for name in packages:
        # Not to be found.
        sys.modules[name] = None  # type: ignore[assignment]
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.freeze()
            gc.enable()
        for name in packages:
            del sys.modules[name]

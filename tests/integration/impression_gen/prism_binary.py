"""Beam's Prism, built from the Go module of the same version as Beam's Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import apache_beam

_MODULE: Final = "github.com/apache/beam/sdks/v2/go/cmd/prism"
_PATIENCE: Final = 900.0


class Missing(Exception):
    """Prism cannot be had here."""


def prism_binary() -> Path:
    """The program, which is built once and kept under ``${XDG_CACHE_HOME:-~/.cache}``.

    Raises:
      Missing: if there is no Go, or it cannot build the program; the message says why.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctr-pipeline"
    kept = cache / f"prism-{apache_beam.__version__}"
    if kept.exists():
        return kept
    go = shutil.which("go")
    if go is None:
        raise Missing(f"no Go here to build Prism, and no {kept}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [go, "install", f"{_MODULE}@v{apache_beam.__version__}"]
        built = subprocess.run(
            command,
            check=False,
            timeout=_PATIENCE,
            cwd=folder,
            env={**os.environ, "GOBIN": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if built.returncode:
            raise Missing(f"{' '.join(command)}: exit code {built.returncode}: {built.stdout.strip()[-500:]}")
        # Whole, as another process may build it at the same time.
        (Path(folder) / "prism").replace(kept)
    return kept

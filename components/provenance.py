"""With which code, on which machine something was made; written down with what was made."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import ctr
from ctr.models.section import Record

PACKAGES: Final = (
    *("tensorflow", "tf-keras", "keras", "tfx", "tensorflow-transform", "tensorflow-data-validation"),
    *("tensorflow-model-analysis", "ml-metadata", "apache-beam", "numpy", "pyarrow", "protobuf", "pydantic"),
)
"""Those whose version may change a number of a run; the lock file has all of them."""

_GPUS: Final = Path("/proc/driver/nvidia/gpus")


class Provenance(Record):
    """Of one process. What is not known is None or empty."""

    version: str
    """Of this project."""
    commit: str | None
    """Of the Git checkout that the code lies in; None of an installed package."""
    changed: bool | None
    """Whether a file of the checkout differs from its commit."""
    packages: dict[str, str]
    """Installed ones of :data:`PACKAGES` -> version."""
    python: str
    """Its version."""
    platform: str
    """Operating system and architecture."""
    cpu: str
    """Model name."""
    cpus: int
    """That the process may use."""
    gpus: tuple[str, ...]
    """Model name of each NVIDIA GPU that the machine shows, used or not."""

    @property
    def code(self) -> str:
        """Version and commit for a person."""
        commit = f", commit {self.commit[:12]}" if self.commit else ""
        return f"{self.version}{commit}{' with changes' if self.changed else ''}"

    @property
    def host(self) -> str:
        """The machine for a person."""
        gpus = f", {', '.join(self.gpus)}" if self.gpus else ", no GPU"
        return f"{self.cpus} x {self.cpu or 'CPU'}{gpus}; Python {self.python}, {self.platform}"


@functools.cache
def gather() -> Provenance:
    """Of this process, as it was when first asked; takes some hundredths of a second and loads nothing."""
    commit, changed = _checkout(Path(ctr.__file__).parent)
    return Provenance(
        version=ctr.__version__,
        commit=commit,
        changed=changed,
        packages=dict(_versions()),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        gpus=tuple(_gpus()),
    )


def _checkout(folder: Path) -> tuple[str | None, bool | None]:
    # A package may be installed somewhere below another project's checkout, which does not know its files.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    # The folders of the code, which links name: what else lies in the checkout makes no difference.
    code = [str(link.resolve()) for link in (folder, *folder.iterdir()) if link.is_dir()]
    changes = _git(folder, "status", "--porcelain", "--", *code)
    return _git(folder, "rev-parse", "HEAD"), None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    # Without a lock: somebody may be at work in the checkout.
    command = [git, "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _cpu() -> str:
    return next(iter(_values(Path("/proc/cpuinfo"), "model name")), platform.processor())


def _gpus() -> Iterator[str]:
    # Not by way of TensorFlow, which not every step loads, and which would set up the device.
    for file in sorted(_GPUS.glob("*/information")):
        yield from _values(file, "Model")


def _values(file: Path, key: str) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() == key]

"""What runs and pushes that were ended left behind in an output folder, and how it is removed; without TFX.

A run on one machine holds a lock that goes with its process. What belongs to a run whose lock is free is nobody's;
what belongs to a living run, or to one of which that cannot be known (a step on a cluster has no lock, and another
machine's lock may not be visible), is left alone.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ctr.components.locks import Owner, held, taken_over
from ctr.pipeline.output.layout import Layout
from ctr.serving.version_folders import incoming_folders, lock_file

if TYPE_CHECKING:
    from ml_metadata.metadata_store.metadata_store import MetadataStore

_LOCK: Final = ".lock"
_SYSTEM: Final = ".system"
"""Below a node's folder: what TFX itself keeps there."""


@dataclass(frozen=True)
class Leftover:
    """A folder."""

    path: str
    """Of it."""
    why: str
    """It is nobody's, or why it is left alone."""
    size: int
    """Bytes in it."""


@dataclass
class Leftovers:
    """What was found, and removed where that was asked for."""

    folders: list[Leftover] = field(default_factory=list)
    """Nobody's."""
    executions: dict[int, str] = field(default_factory=dict)
    """By number, whose they were: ML Metadata says that they are under way, and nobody works on them."""
    left_alone: list[str] = field(default_factory=list)
    """What may be somebody's, a line each."""

    def __bool__(self) -> bool:
        return bool(self.folders or self.executions)

    def __str__(self) -> str:
        size = readable(sum(leftover.size for leftover in self.folders))
        executions = [_count(len(self.executions), "execution")] if self.executions else []
        folders = [f"{_count(len(self.folders), 'folder')} ({size})"] if self.folders else []
        return " and ".join(executions + folders) or "nothing"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def readable(size: int) -> str:
    """Bytes for a person."""
    value, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def lock_of(layout: Layout, run_id: str) -> str:
    """The file that a run on one machine holds while it is under way."""
    return os.path.join(layout.runs, f"{run_id}{_LOCK}")


@contextlib.contextmanager
def living(layout: Layout, run_id: str) -> Iterator[None]:
    """Says that a run is under way, while the block runs; until the process ends, however it does.

    Where the block ends with an exception, the next run looks for what this one left.
    """
    os.makedirs(layout.runs, exist_ok=True)
    lock = lock_of(layout, run_id)
    with held(lock):
        yield
        os.unlink(lock)


def clear(layout: Layout, dry_run: bool = False) -> Leftovers:
    """Removes what runs that have died left: partial outputs, copies of versions, and executions under way.

    Executions become FAILED. Cheap where there is nothing: ML Metadata is opened only for a run that has died. A dry
    run only looks.

    Raises:
      OSError: if something cannot be removed.
    """
    found = Leftovers()
    for lock in sorted(glob.glob(os.path.join(glob.escape(layout.runs), f"*{_LOCK}"))):
        run_id = os.path.basename(lock).removesuffix(_LOCK)
        with taken_over(lock) as owner:
            if owner is Owner.DEAD:
                _clear_run(layout, run_id, dry_run, found)
                if not dry_run:
                    os.unlink(lock)
            elif owner is Owner.UNKNOWN:
                found.left_alone.append(f"run {run_id}: started on another machine, it may be under way")
    for base in sorted(glob.glob(os.path.join(glob.escape(layout.serving), "*", ""))):
        for incoming in incoming_folders(base):
            with taken_over(lock_file(incoming)) as owner:
                if owner is Owner.DEAD:
                    _remove(incoming, "a push that was killed", dry_run, found)
                elif owner is Owner.UNKNOWN:
                    found.left_alone.append(f"{incoming}: without a lock of this machine, it may be a push under way")
    return found


def clear_all(layout: Layout, dry_run: bool = False) -> Leftovers:
    """As :func:`clear`, and outputs of executions that did not succeed or that ML Metadata does not know."""
    # Before the executions are read: a folder is made after its execution is known.
    folders = dict(_folders(layout))
    found = clear(layout, dry_run)
    if not os.path.exists(layout.metadata_db):
        if folders:
            found.left_alone.append(f"{layout.artifacts}: no {layout.metadata_db} says what is in use")
        return found
    from ctr.pipeline.output.executions import is_active, succeeded

    with _store(layout) as store:
        executions = {execution.id: execution for execution in store.get_executions()}
        in_use = _in_use(store)
        cleared = {leftover.path for leftover in found.folders}
        for path, number in folders.items():
            execution = executions.get(number)
            if path in cleared or (execution is not None and (succeeded(execution) or is_active(execution))):
                continue
            if _below_root(path) not in in_use:
                why = "did not succeed" if execution is not None else "is not known to ML Metadata"
                _remove(path, f"execution {number} {why}", dry_run, found)
    under_way = {number for number, execution in executions.items() if is_active(execution)}
    for number in sorted(under_way - set(found.executions)):
        found.left_alone.append(f"execution {number}: under way, and no lock says that its run has ended")
    return found


def _clear_run(layout: Layout, run_id: str, dry_run: bool, found: Leftovers) -> None:
    if not os.path.exists(layout.metadata_db):
        return
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from ctr.pipeline.output.executions import is_active, mark, of_run, succeeded

    with _store(layout) as store:
        unfinished = [execution for execution in of_run(store, run_id) if not succeeded(execution)]
        active = [execution for execution in unfinished if is_active(execution)]
        numbers = {execution.id for execution in unfinished}
        in_use = _in_use(store)
        for path, number in _folders(layout):
            if number in numbers and _below_root(path) not in in_use:
                _remove(path, f"run {run_id} did not finish it", dry_run, found)
        found.executions.update((execution.id, f"run {run_id}, which has ended") for execution in active)
        if not dry_run:
            mark(store, active, mlmd.Execution.FAILED)


def _folders(layout: Layout) -> Iterator[tuple[str, int]]:
    """Folders of artifacts, and what TFX keeps of an execution, with its number."""
    root = glob.escape(layout.artifacts)
    for pattern in (("*", "*"), ("*", _SYSTEM, "executor_execution")):
        for path in sorted(glob.glob(os.path.join(root, *pattern, "*"))):
            name = os.path.basename(path)
            if name.isascii() and name.isdigit() and os.path.isdir(path):
                yield path, int(name)


def _in_use(store: MetadataStore) -> set[tuple[str, ...]]:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    return {_below_root(artifact.uri) for artifact in store.get_artifacts() if artifact.state == mlmd.Artifact.LIVE}


def _below_root(path: str) -> tuple[str, ...]:
    # Node, output and execution: the folder may have been moved since.
    return tuple(path.rstrip("/").split("/")[-3:])


def _remove(path: str, why: str, dry_run: bool, found: Leftovers) -> None:
    size = sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(path) for name in names)
    found.folders.append(Leftover(path, why, size))
    if not dry_run:
        shutil.rmtree(path)


@contextlib.contextmanager
def _store(layout: Layout) -> Iterator[MetadataStore]:
    from ml_metadata.errors import StatusError
    from ml_metadata.metadata_store.metadata_store import MetadataStore

    from ctr.pipeline.output.connection import connection
    from ctr.pipeline.settings.metadata import MetadataConfig

    try:
        yield MetadataStore(connection(MetadataConfig(), layout))
    except StatusError as error:
        # E.g. while another run writes to the file.
        raise OSError(f"{layout.metadata_db}: {error}") from error

"""Locks that go with the process that holds them, so that what a dead one left can be told from a living one's."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Holds a new lock file while the block runs. The file is left; the lock ends with the block or the process.

    On a file system without locks there is none, and its owner is unknown to :func:`taken_over`.

    Args:
      path: of the file, in a folder that exists.

    Raises:
      FileNotFoundError: if there is no such folder, or the file was taken over before it was locked.
      FileExistsError: if there is such a file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(descriptor, "\n".join(_machine()).encode())
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not _is(path, descriptor):
            raise FileNotFoundError(f"{path}: taken over before it was locked")
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(path: str, words: str) -> Iterator[None]:
    """Holds a lock file that is used again and again while the block runs; on a file system without locks, nothing.

    Args:
      path: of the file, in a folder that exists.
      words: say who holds it, for those who come meanwhile.

    Raises:
      BlockingIOError: if another process holds it, with its words.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(os.read(descriptor, 1000).decode(errors="replace")) from None
        except OSError:
            yield
            return
        os.ftruncate(descriptor, 0)
        os.write(descriptor, words.encode())
        yield
    finally:
        os.close(descriptor)


class Owner(enum.Enum):
    """Who holds a lock."""

    LIVING = "living"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """There is no lock, or none that this machine may ask for: some shared file systems do not know each other's."""


@contextlib.contextmanager
def taken_over(path: str) -> Iterator[Owner]:
    """Looks for the owner of a lock and, where it is known to have died, holds the lock while the block runs.

    Args:
      path: of the lock file. Who takes over what belongs to a dead owner removes this file last, within the block.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield Owner.UNKNOWN
        return
    try:
        yield _owner(path, descriptor)
    finally:
        os.close(descriptor)


def _owner(path: str, descriptor: int) -> Owner:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Owner.LIVING
    except OSError:
        return Owner.UNKNOWN
    if not _is(path, descriptor):
        return Owner.LIVING
    owner = os.read(descriptor, 1000).decode(errors="replace").split("\n")
    # A machine that was started anew is known by its name, a container that was by its kernel.
    ours = any(mine and mine == its for mine, its in zip(_machine(), owner, strict=False))
    return Owner.DEAD if ours else Owner.UNKNOWN


def _is(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _machine() -> tuple[str, str]:
    """The running kernel, and the machine's name."""
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        kernel = ""
    return kernel, socket.gethostname()

"""Moves labels: checks, writes down, and tells running servers. Loads neither TensorFlow nor ML Metadata."""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ctr.components.blessing import Blessing, NotBlessed, check_blessed, read_blessing
from ctr.components.locks import alone
from ctr.components.scoring.reading import interval
from ctr.models.errors import CtrError
from ctr.pipeline.release.labels import CANARY, MODELS_CONFIG, STABLE, Labels, ReleaseFile
from ctr.pipeline.release.record import Action, Change, Intended, intend, settle
from ctr.pipeline.release.shadow_record import Shadow
from ctr.serving.client import ServingError
from ctr.serving.management import ServerManagement

_LOCK = ".release.lock"


class ReleaseError(CtrError):
    """A change that cannot be made; the message says why, and what to do."""


@dataclass(frozen=True)
class Versions:
    """The pushed versions of a model, and the file with their labels."""

    base: str
    """Their folder."""
    model: str
    """As servers and requests name it."""
    config: str = ""
    """The file with the labels; empty for the one beside the versions."""
    base_path: str = ""
    """Their folder as servers see it, for a new file; empty for the same."""

    @property
    def config_path(self) -> str:
        """The file with the labels."""
        return self.config or os.path.join(self.base, MODELS_CONFIG)

    def folder(self, version: int) -> str:
        """Of one version."""
        return os.path.join(self.base, str(version))

    def file(self) -> ReleaseFile:
        """The file as it is now. Errors as of :class:`ReleaseFile`."""
        return ReleaseFile(self.config_path, self.model, self.base_path or self.base)

    def labels_of(self, config: str) -> dict[str, int]:
        """Label -> version of this model in a file. Errors as of :class:`ReleaseFile`."""
        labels = ReleaseFile(config, self.model, self.base).labels
        return labels.by_name() if labels else {}


@contextlib.contextmanager
def changing(versions: Versions) -> Iterator[None]:
    """Keeps others from changing labels while the block runs, and first finishes a record that a crash left out.

    Raises:
      ReleaseError: if somebody is at it, or the folder cannot be written to.
    """
    try:
        with alone(os.path.join(versions.base, _LOCK), f"{_person()}, process {os.getpid()}, since {_now()}"):
            settle(versions.base, versions.labels_of)
            yield
    except BlockingIOError as error:
        raise ReleaseError(
            f"{versions.base}: another release is under way: {error}; look at 'release status' when it has ended"
        ) from error
    except PermissionError as error:
        raise ReleaseError(f"{error.filename}: cannot be written by this user") from error


def canary(versions: Versions, before: Labels | None, version: int) -> tuple[Labels, Blessing]:
    """The labels with a version as canary.

    Raises:
      ReleaseError: if there is no stable version, or this one has a label already.
      NotBlessed: see :func:`ctr.components.blessing.check_blessed`.
    """
    if before is None:
        raise ReleaseError(
            f"{versions.config_path}: no version is stable yet; 'release promote VERSION' makes the first one so"
        )
    if version in (before.stable, before.canary):
        raise ReleaseError(f"version {version} is {STABLE if version == before.stable else CANARY} already")
    return before.with_canary(version), check_blessed(versions.folder(version), versions.model)


def promoted(versions: Versions, before: Labels | None, version: int | None) -> tuple[Labels, Blessing]:
    """The labels with the canary as stable, or the first ones, of a version that is named.

    Raises:
      ReleaseError: if there is no canary, or it is another version than the one named.
      NotBlessed: as of :func:`canary`.
    """
    if before is None:
        if version is None:
            raise ReleaseError(f"{versions.config_path}: no version is stable yet; name the one that is to be")
        return Labels(version, version), check_blessed(versions.folder(version), versions.model)
    if before.canary == before.stable:
        raise ReleaseError(
            f"there is no canary to promote, version {before.stable} is stable; 'release canary VERSION' comes first"
        )
    if version is not None and version != before.canary:
        raise ReleaseError(f"version {version} is not the canary, version {before.canary} is")
    return before.promoted(), check_blessed(versions.folder(before.canary), versions.model)


def rolled_back(versions: Versions, before: Labels | None) -> Labels:
    """The labels without the canary, or with the version that was stable before.

    Raises:
      ReleaseError: if there is nothing to go back to, or its folder is gone.
    """
    after = None if before is None else before.rolled_back()
    if after is None:
        raise ReleaseError(
            f"{versions.config_path}: nothing to go back to: no canary is out, and no earlier stable version is kept; "
            "'release canary VERSION' and 'release promote' bring any blessed version"
        )
    if not os.path.isdir(versions.folder(after.stable)):
        raise ReleaseError(f"{versions.folder(after.stable)}: the version to go back to is gone")
    return after


def described(
    action: Action,
    before: Labels | None,
    after: Labels,
    reason: str,
    blessing: Blessing | None,
    run_id: str | None = None,
    shadow: Shadow | None = None,
) -> Change:
    """What is written down of a change."""
    return Change(
        time=_now(),
        by=_person(),
        action=action,
        before={} if before is None else before.by_name(),
        after=after.by_name(),
        reason=reason,
        verdict=None if blessing is None else words_of(blessing),
        execution=None if blessing is None else blessing.execution,
        run_id=run_id,
        shadow=shadow,
    )


def blessing_if_any(versions: Versions, version: int) -> Blessing | None:
    """What is said of a version, where it is still said."""
    with contextlib.suppress(NotBlessed):
        return read_blessing(versions.folder(version))
    return None


def words_of(blessing: Blessing) -> str:
    """Verdict and AUC."""
    verdict = blessing.verdict
    decided = sum(bound.state != "not_compared" for bound in verdict.bounds)
    words = (
        f"{'blessed' if verdict.blessed else 'not blessed'}, {decided - len(verdict.missed)} of {decided} bounds met"
    )
    on = blessing.judged_set.replace("_", " ")
    return f"{words}, AUC {interval(blessing.auc)} on {on} negatives" if blessing.auc else words


def move(
    versions: Versions,
    file: ReleaseFile,
    after: Labels,
    change: Change,
    servers: Sequence[ServerManagement] = (),
    seconds: float = 120.0,
) -> None:
    """Makes a change: first loads what is new on the servers, then moves the labels, then writes it down.

    Both servers move a label in use only to a version that is loaded, and TF Serving looks at labels before it loads:
    so what is new is asked for under the labels in force, and labels move when it is there.

    Args:
      versions: see there.
      file: as it was read.
      after: the labels.
      change: what is written down.
      servers: running ones that are told; others follow the file, if they were started so.
      seconds: that a version may take to load.

    Raises:
      ServingError: if a server cannot load a version, and then labels are as they were; or if one does not move the
        labels, which the others and the file have then.
    """
    before = file.labels
    new = {*after.by_name().values()} - ({*before.by_name().values()} if before else set())
    if servers and new:
        as_it_was, text = file.as_read(), file.text
        loading = file.with_labels(before, also_loaded=new)
        file.write(loading)
        try:
            for server in servers:
                server.reload(loading)
            for server in servers:
                server.wait_until_available(versions.model, new, seconds)
        except ServingError:
            file.write(as_it_was, text)
            for server in servers:
                with contextlib.suppress(ServingError):
                    server.reload(as_it_was)
            raise
    config = file.with_labels(after)
    made = change.model_copy(update={"time": _now()})
    intend(versions.base, Intended(config=os.path.abspath(versions.config_path), change=made))
    try:
        file.write(config)
    finally:
        settle(versions.base, versions.labels_of)
    failures = []
    for server in servers:
        try:
            server.reload(config)
        except ServingError as error:
            failures.append(str(error))
    if failures:
        raise ServingError(f"{versions.config_path} has the new labels, but not every server:\n" + "\n".join(failures))


def _now() -> str:
    return dt.datetime.now().astimezone().isoformat(timespec="seconds")


def _person() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # In a container whose user has no name.
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"

"""Publishes a model as a version directory that a server may pick up at any moment.

TF Serving loads any integer directory it sees, half copied or not (tensorflow/tfx issues 4466 and 4634), so a
version must appear whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator

import tensorflow as tf

from ctr.components.blessing import Blessing, sha256
from ctr.components.files import is_address
from ctr.components.locks import held
from ctr.components.pusher.model_card import CardFacts
from ctr.components.scoring.evaluation import MODEL
from ctr.components.scoring.reading import AUC
from ctr.serving.version_folders import SAVED_MODEL_FILE, incoming_folder, lock_file, next_version


def blessing_of(facts: CardFacts, model_dir: str) -> Blessing:
    """What proves that the model in this folder, local or remote, was blessed."""
    evaluation = facts.evaluation
    judged = evaluation.of(evaluation.judged_set)
    files = {}
    for folder, _, names in tf.io.gfile.walk(model_dir):
        for name in names:
            path = os.path.join(folder, name)
            with tf.io.gfile.GFile(path, "rb") as file:
                files[os.path.join(folder[len(model_dir) :].lstrip("/"), name)] = sha256(file)
    return Blessing(
        served_model_name=facts.served_model_name,
        judged_set=evaluation.judged_set,
        auc=judged.metrics.get(MODEL, {}).get(AUC) if judged is not None else None,
        verdict=evaluation.verdict,
        artifacts=facts.artifacts,
        execution=facts.execution,
        data_digest=facts.content.digest,
        files=dict(sorted(files.items())),
    )


def publish(model_dir: str, base_dir: str) -> int:
    """Copies a SavedModel to ``base_dir/<version>/``.

    On a local or mounted file system the copy is made in a hidden sibling, ``.<version>.incoming``, flushed to
    disk and renamed: the version is there whole or not at all. On a remote store (``scheme://``) there is no
    atomic rename of a folder; there ``saved_model.pb``, without which servers load nothing, is written last.
    A lock in it goes with the process, so that what a push that was killed left can be removed.

    Args:
      model_dir: the SavedModel, local or remote.
      base_dir: the folder that the server watches; created if missing.

    Returns:
      The version: Unix seconds, or one above the largest existing version if that is greater.

    Raises:
      FileNotFoundError: if ``model_dir`` has no ``saved_model.pb``.
      OSError: if the copy fails; no version directory is left then.
    """
    if not tf.io.gfile.exists(os.path.join(model_dir, SAVED_MODEL_FILE)):
        raise FileNotFoundError(f"{model_dir}: no {SAVED_MODEL_FILE} there, so there is nothing to push")
    tf.io.gfile.makedirs(base_dir)
    if is_address(base_dir):
        return _publish_remote(model_dir, base_dir)
    with _claimed(base_dir) as (version, incoming):
        try:
            copy = os.path.join(incoming, "model")
            _copy(model_dir, copy)
            _flush(copy)
            os.rename(copy, os.path.join(base_dir, str(version)))
        except Exception as error:
            raise OSError(f"{model_dir}: not pushed to {base_dir}, the copy failed: {error!r}") from error
    _flush_entry(base_dir)
    return version


@contextlib.contextmanager
def _claimed(base_dir: str) -> Iterator[tuple[int, str]]:
    # Creating the folder is the claim: of two pushes at once, one gets the next number.
    while True:
        version = _next_version(os.listdir(base_dir))
        incoming = incoming_folder(base_dir, version)
        try:
            os.mkdir(incoming)
        except FileExistsError:
            continue
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(lock_file(incoming)))
            except FileNotFoundError:
                # Taken for one that a killed push left, before it was locked.
                continue
            stack.callback(shutil.rmtree, incoming)
            # Another push may have finished with this number since the folder was listed.
            if not os.path.exists(os.path.join(base_dir, str(version))):
                yield version, incoming
                return


def _next_version(names: list[str]) -> int:
    return next_version([name.rstrip("/") for name in names], first=int(time.time()))


def _publish_remote(model_dir: str, base_dir: str) -> int:
    version = _next_version(tf.io.gfile.listdir(base_dir))
    target = os.path.join(base_dir, str(version))
    try:
        _copy(model_dir, target, leave_out=SAVED_MODEL_FILE)
        tf.io.gfile.copy(os.path.join(model_dir, SAVED_MODEL_FILE), os.path.join(target, SAVED_MODEL_FILE))
    except Exception as error:
        if tf.io.gfile.exists(target):
            tf.io.gfile.rmtree(target)
        raise OSError(f"{model_dir}: not pushed to {target}, the copy failed: {error!r}") from error
    return version


def _copy(source: str, target: str, leave_out: str = "") -> None:
    for folder, _, names in tf.io.gfile.walk(source):
        there = os.path.join(target, folder[len(source) :].lstrip("/"))
        tf.io.gfile.makedirs(there)
        for name in names:
            if name != leave_out:
                tf.io.gfile.copy(os.path.join(folder, name), os.path.join(there, name))


def _flush(folder: str) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            _flush_entry(os.path.join(parent, name))
        _flush_entry(parent)


def _flush_entry(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What all tests share: how they are spread over parallel processes, and a package from outside the tree."""

from __future__ import annotations

import gc
import os.path
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from pages import write_package
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

_SHARE_A_RUN = "tests/e2e/"

# How long an example takes says what else the machine does.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

# What the tests import, TFX above all, stays for ever: nothing is looked for in it while it comes or afterwards.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


class _ByFile(LoadFileScheduling):
    """A file's tests share its fixtures and run in one process; so do those of a folder of end-to-end tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return os.path.dirname(file) if file.startswith(_SHARE_A_RUN) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile:
    return _ByFile(config, log)


@contextmanager
def _forgetting_declared() -> Iterator[None]:
    from ctr.models.impression import FEATURES, declare_features

    before = [row for row in FEATURES.values() if row.declared]
    yield
    declare_features(before)


@pytest.fixture(autouse=True, scope="module")
def _declared_as_before_the_module() -> Iterator[None]:
    """What a module's fixtures declare is forgotten after it."""
    with _forgetting_declared():
        yield


@pytest.fixture(autouse=True)
def _declared_as_before(_declared_as_before_the_module: None) -> Iterator[None]:
    """What a description declares in a test is forgotten after it."""
    with _forgetting_declared():
        yield


@pytest.fixture
def table() -> Iterator[None]:
    """The table of features; what a test registers is forgotten afterwards."""
    from ctr.models import impression

    before = dict(impression.FEATURES)
    yield
    impression.FEATURES.clear()
    impression.FEATURES.update(before)
    impression._derive()


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: None) -> Iterator[Path]:
    """A folder on the path that holds the package of docs/; forgotten afterwards."""
    from ctr.components.scoring.metrics import METRICS
    from ctr.models.registry import ACTIVATIONS, MODELS
    from ctr.models.samplers.registry import SAMPLERS

    folder = tmp_path / "plugins"
    folder.mkdir()
    write_package(folder)
    for registry in (MODELS, SAMPLERS, ACTIVATIONS, METRICS):
        monkeypatch.setattr(registry, "_declarations", dict(registry._declarations))
    monkeypatch.setattr("ctr.models.registration._packages", {})
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith("my_"):
            del sys.modules[name]

"""How tests are spread over parallel processes."""

from __future__ import annotations

import os.path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

_SHARE_A_RUN = "tests/e2e/"


class _ByFile(LoadFileScheduling):
    """A file's tests share its fixtures and run in one process; so do those of a folder of end-to-end tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return os.path.dirname(file) if file.startswith(_SHARE_A_RUN) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile:
    return _ByFile(config, log)

from __future__ import annotations

from pathlib import Path

import pytest

from ctr.generator.behavior_log import GeneratorConfig, generate
from ctr.generator.compare import read_log
from ctr.generator.events import Events


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean log of 1,000 users."""
    path = tmp_path_factory.mktemp("generated") / "log.csv"
    generate(GeneratorConfig(users=1000, seed=7), path)
    return path


@pytest.fixture(scope="session")
def log(generated: Path) -> Events:
    return read_log(generated)

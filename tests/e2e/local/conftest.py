"""One trained pipeline for all end-to-end tests: a generated log, BeamDagRunner, a pushed model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Forks
from trained_run import SETTINGS, Trained

from ctr.pipeline.runners.local import LocalRunner
from ctr.pipeline.settings.pipeline_config import load_preset


@pytest.fixture(scope="session", autouse=True)
def _quiet_tensorflow() -> Iterator[None]:
    before = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    yield
    if before is None:
        del os.environ["TF_CPP_MIN_LOG_LEVEL"]
    else:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = before


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 300 users with some dirt of each kind."""
    from ctr.generator.behavior_log import generate
    from ctr.generator.generator_config import DIRT_KINDS, DirtConfig, GeneratorConfig

    file = tmp_path_factory.mktemp("log") / "UserBehavior.csv"
    dirt = DirtConfig.model_validate(dict.fromkeys(DIRT_KINDS, 3))
    generate(GeneratorConfig(users=300, seed=11, dirt=dirt), file)
    return file


@pytest.fixture(scope="session")
def trained(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The shared run, on BeamDagRunner."""
    assignments = [value for value in SETTINGS if value != "--set"]
    config = load_preset("demo", assignments).with_overrides(
        {"data": str(log), "output": str(tmp_path_factory.mktemp("output"))}
    )
    assert config.runner == "beam"
    return Trained(config, LocalRunner().run(config), len(log.read_bytes().splitlines()))

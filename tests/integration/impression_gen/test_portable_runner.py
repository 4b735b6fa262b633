"""The ingest through Beam's portable API: a job server, and worker processes apart, as on Flink.

Two job servers: Beam's in Python, with the runner of the default, and Prism, another engine. Neither can import this
project, so it knows the pipeline by its protos alone, as a runner in Java does. The workers get what the protos carry,
the project as it is installed, and the folders that all share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from beam_services import Service, job_server, note_process, prism, refuse, worker_pool
from ingest_runs import Ingested, ingest_files
from prism_binary import Missing, prism_binary

from ctr.components.impression_gen.build import run_ingest
from ctr.components.settings import IngestConfig
from ctr.generator.behavior_log import GeneratorSummary, generate
from ctr.generator.generator_config import DirtConfig, GeneratorConfig
from ctr.models.impression import SPLITS
from ctr.pipeline.process.errors import reason

INGEST = IngestConfig(user_partitions=3, block_megabytes=1, targets_per_user=3)
DIRT = DirtConfig(negative_timestamp=3, outside_window=20, duplicate=30, wrong_field_count=10, not_an_integer=5)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with worker_pool(tmp_path_factory.mktemp("pool")) as service:
        yield service


@pytest.fixture(scope="module", params=["Python", "Prism"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("job_server")
    try:
        started = prism(prism_binary(), folder) if request.param == "Prism" else job_server(folder)
    except Missing as reason:
        pytest.skip(str(reason))
    with started as service:
        yield service


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GeneratorSummary]:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    summary = generate(GeneratorConfig(users=330, dirt=DIRT), path)
    assert path.stat().st_size > INGEST.block_megabytes << 20, "too small to be cut into blocks"
    return path, summary


@pytest.fixture(scope="module")
def in_memory(log: tuple[Path, GeneratorSummary], tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    return ingest_files([log[0]], tmp_path_factory.mktemp("in_memory"), INGEST)


def portable(server: Service, pool: Service) -> PipelineOptions:
    return PipelineOptions(
        [
            "--runner=PortableRunner",
            f"--job_endpoint={server.address}",
            "--environment_type=EXTERNAL",
            f"--environment_config={pool.address}",
            # With this server it bounds the whole job.
            "--job_server_timeout=600",
        ]
    )


@pytest.mark.slow
def test_workers_apart_write_the_same_bytes(
    server: Service, pool: Service, log: tuple[Path, GeneratorSummary], in_memory: Ingested, tmp_path: Path
) -> None:
    path, generated = log
    apart = Ingested(tmp_path / "apart")
    noted = tmp_path / "process"

    with beam.Pipeline(options=portable(server, pool)) as pipeline:
        folders = [str(apart.folder / name) for name in ("examples", "catalogue", "quarantine")]
        run_ingest(pipeline, [str(path)], INGEST, *folders)
        _ = pipeline | "Where" >> beam.Create([str(noted)]) | "Note" >> beam.Map(note_process)

    worker, parent = map(int, noted.read_text().split())
    assert parent == pool.process.pid
    assert worker not in (os.getpid(), server.process.pid)

    files = apart.files("")
    assert files == in_memory.files("")
    for split in SPLITS:
        assert sum(f"Split-{split}" in name for name in files) == INGEST.user_partitions
    assert apart.summary == in_memory.summary
    assert apart.summary.rows_read == generated.rows
    assert len(apart.quarantine()) == sum(apart.summary.quarantined.values()) >= 30
    counters = pipeline.result.metrics().query(beam.metrics.MetricsFilter().with_name("rows_read"))["counters"]
    assert [counter.committed for counter in counters] == [generated.rows]


@pytest.mark.slow
def test_error_of_a_worker_keeps_its_words(server: Service, pool: Service) -> None:
    if "prism-2.61" in str(server.process.args):
        pytest.xfail("this version's Prism calls a job done whose worker failed")
    with pytest.raises(RuntimeError) as failed, beam.Pipeline(options=portable(server, pool)) as pipeline:
        _ = pipeline | beam.Create(["log.csv"]) | "Refuse" >> beam.Map(refuse)

    assert reason(failed.value) == "ValueError: log.csv: not a behaviour log"

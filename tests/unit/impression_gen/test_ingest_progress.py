from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ctr.components.impression_gen.progress import Done, describe, reported
from ctr.components.impression_gen.spool import Spool

READ = {"read": (3, 50_000, 2_000_000)}


@pytest.mark.parametrize(
    ("done", "line"),
    [
        ({}, "2:05: reading, 0 rows, 0 of 8 MB, 0 rows/s"),
        (READ, "2:05: reading, 50,000 rows, 2 of 8 MB, 1,000 rows/s, 2:30 left in this step"),
        ({**READ, "sort": (8, 1000)}, "2:05: sorting, 8 of 64 partitions, 5:50 left in this step"),
        ({**READ, "sort": (64, 1000), "count": (64, 9)}, "2:05: counting items, 64 of 64 partitions"),
        (
            {**READ, "merge": (64,), "propose": (16, 9)},
            "2:05: proposing negatives, 16 of 64 partitions, 2:30 left in this step",
        ),
        (
            {**READ, "shard": (2,), "write": (32, 7, 100_000)},
            "2:05: writing impressions, 100,000 impressions, 32 of 64 partitions, 2,000 impressions/s, "
            "0:50 left in this step",
        ),
    ],
)
def test_a_line(done: Done, line: str) -> None:
    assert describe(done, log_bytes=8_000_000, partitions=64, seconds=125.0, step_seconds=50.0) == line


def test_lines_come_while_the_block_runs(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    lines: list[str] = []
    seen = threading.Event()

    def report(line: str) -> None:
        lines.append(line)
        seen.set()

    with reported(spool, 1000, 4, report, every=0.01):
        assert not seen.wait(0.1), "nothing is done"
        with spool.file("read", 10, 500):
            pass
        assert seen.wait(10)
    count = len(lines)
    assert "reading, 10 rows, 0 of 0 MB" in lines[0]
    assert not any(thread.name == "ingest progress" for thread in threading.enumerate())
    assert len(lines) == count

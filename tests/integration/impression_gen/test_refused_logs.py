"""Logs that cannot be learnt from: the ingest refuses them, and the look before it in the same words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ingest_runs import as_csv, ingest_files

from ctr.components.impression_gen.look import look_at
from ctr.components.settings import IngestConfig
from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import GeneratorConfig

START, END = IngestConfig().window
INGEST = IngestConfig(user_partitions=3, targets_per_user=8)
Row = tuple[int, int, int, str, int]


def rows(of: Callable[[int], tuple[object, ...]], count: int = 200) -> str:
    return "".join(",".join(map(str, of(i))) + "\n" for i in range(count))


TINY = {
    "no row": ("", "the log has no row"),
    "one event": (rows(lambda i: (1, 2, 3, "pv", START), 1), "leave nothing for validation and eval"),
    "one second": (rows(lambda i: (1 + i % 20, 10 + i % 37, 1, "pv", START)), "leave nothing for validation and eval"),
    "two seconds": (
        rows(lambda i: (1 + i % 20, 10 + i % 37, 1, "pv", START + (i > 190))),
        "leave nothing for validation",
    ),
    "outside the window": (
        rows(lambda i: (1 + i % 20, 10 + i % 37, 1, "pv", START - 10**7 + i)),
        r"(?s)200 of 200 rows cannot be used.*set ingest\.window_start and ingest\.window_end",
    ),
    "one user": (
        rows(lambda i: (1, 10 + i % 20, 1 + i % 20 % 3, "pv", START + 3000 * i)),
        r"(?s)no event of train and validation and eval becomes an impression.* has 1 user\.",
    ),
    "one item": (
        rows(lambda i: (1 + i % 20, 10, 3, "pv", START + 3000 * i)),
        r"(?s)no event of train and validation and eval becomes an impression.*no_negative:contemporaneous",
    ),
    "one event a user": (
        rows(lambda i: (1 + i, 10 + i % 37, 1, "pv", START + 3000 * i)),
        r"(?s)- train: 140 events, of which 140 short_history.*ingest\.min_history",
    ),
    "other kinds of event": (
        rows(lambda i: (1 + i % 20, 10 + i % 37, 1, ("pv", "click", "view")[i % 3], START + 3000 * i)),
        r"(?s)133 of 200 rows cannot be used.*133 unknown_behavior.*'click', 'view'",
    ),
    "milliseconds": (
        rows(lambda i: (1 + i % 20, 10 + i % 37, 1, "pv", (START + 3000 * i) * 1000)),
        r"(?s)log\.csv, line 1: 1,10,1,pv,1511539200000.*divide them by 1000",
    ),
    "half of the rows twice": (
        rows(lambda i: (1 + i % 100 % 20, 10 + i % 100 % 37, 1, "pv", START + 3000 * (i % 100))),
        r"(?s)100 of 200 rows.*duplicate \(first at log\.csv:1\), log\.csv, line 101",
    ),
}


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_log_is_refused_by_the_look_and_by_the_ingest_in_the_same_words(name: str, tmp_path: Path) -> None:
    text, says = TINY[name]
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=says) as looked:
        look_at(str(tmp_path / "log.csv"), INGEST)
    with pytest.raises(ValueError, match=says) as ingested:
        ingest_files([tmp_path / "log.csv"], tmp_path / "out", INGEST)
    assert re.sub(r" \[while running '[^']*'\]", "", str(ingested.value)) == str(looked.value)
    assert not (tmp_path / "out" / "catalogue" / "summary.json").exists()


def test_swapped_columns_are_refused_before_impressions_are_written(tmp_path: Path) -> None:
    made = generate(GeneratorConfig(users=150, seed=3), tmp_path / "right.csv")
    swapped: list[Row] = []
    for line in made.path.read_text().split():
        user, item, category, behavior, time = line.split(",")
        swapped.append((int(item), int(user), int(category), behavior, int(time)))
    (tmp_path / "log.csv").write_bytes(as_csv(swapped))
    with pytest.raises(ValueError, match=r"events a user on average") as looked:
        look_at(str(tmp_path / "log.csv"), INGEST)
    with pytest.raises(ValueError, match=r"events a user on average") as ingested:
        ingest_files([tmp_path / "log.csv"], tmp_path / "out", INGEST)
    assert re.sub(r" \[while running '[^']*'\]", "", str(ingested.value)) == str(looked.value)
    assert not list((tmp_path / "out").rglob("data_tfrecord-*"))


def test_names_that_would_be_patterns_are_names(tmp_path: Path) -> None:
    folder = tmp_path / "in[1]*"
    folder.mkdir()
    made = generate(GeneratorConfig(users=60, seed=3), tmp_path / "log.csv")
    (folder / "log[1].csv").write_bytes(made.path.read_bytes())
    (folder / "log1.csv").write_text("another log\n")
    done = ingest_files([folder / "log[1].csv"], tmp_path / "out[1]?", INGEST)
    assert done.summary.files == ["log[1].csv"]
    assert done.summary.rows_read == made.rows
    assert not (tmp_path / "out[1]?" / "examples" / ".incoming").exists()

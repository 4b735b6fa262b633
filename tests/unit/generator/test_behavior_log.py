from __future__ import annotations

import datetime as dt
import fcntl
import gzip
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.settings import IngestConfig
from ctr.generator import behavior_log
from ctr.generator.behavior_log import DirtConfig, GeneratorConfig, generate
from ctr.generator.compare import first_of_group
from ctr.generator.events import Events

BEHAVIORS = {"pv", "cart", "fav", "buy"}
ROOT = Path(__file__).parents[3]
GENERATE = """
import resource, sys
from pathlib import Path
from ctr.generator.behavior_log import GeneratorConfig, generate
generate(GeneratorConfig(users=int(sys.argv[1]), seed=1), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _rows(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


def test_the_file_is_in_the_format_of_the_real_log(generated: Path) -> None:
    data = generated.read_bytes()
    assert data.endswith(b"\n")
    assert b"\r" not in data
    for row in _rows(generated):
        user, item, category, behavior, time = row
        assert behavior in BEHAVIORS
        assert int(user) >= 1
        assert int(item) >= 1
        assert int(category) >= 1
        assert str(int(time)) == time


def test_users_are_contiguous_and_in_time_order(generated: Path) -> None:
    rows = np.array([(int(row[0]), int(row[4])) for row in _rows(generated)])
    user, time = rows.T
    changes = np.flatnonzero(np.diff(user)) + 1
    assert len(changes) + 1 == len(np.unique(user)) == 1000
    within = np.diff(user) == 0
    assert (np.diff(time)[within] >= 0).all()


def test_every_row_is_in_the_window_and_both_ends_are_used(log: Events) -> None:
    first, last = IngestConfig().window
    assert log.time.min() >= first
    assert log.time.max() <= last
    assert log.time.min() < first + 3600
    assert log.time.max() > last - 3600


def test_a_clean_log_holds_no_row_twice_and_no_item_in_two_categories(generated: Path, log: Events) -> None:
    lines = generated.read_text().splitlines()
    assert len(set(lines)) == len(lines)
    pairs = np.unique(np.stack([log.item, log.category], axis=1), axis=0)
    assert len(pairs) == len(np.unique(log.item))


def test_ids_are_not_dense(log: Events) -> None:
    for column in (log.user, log.item, log.category):
        known = np.unique(column)
        assert known[-1] > len(known)


def test_ties_in_time_occur(log: Events) -> None:
    ties = len(log) - len(np.unique(first_of_group(log.user, log.time)))
    assert 0.0005 < ties / len(log) < 0.01


def test_the_summary_counts_what_stands_in_the_file(tmp_path: Path) -> None:
    summary = generate(GeneratorConfig(users=50, seed=1), tmp_path / "log.csv")
    rows = _rows(summary.path)
    assert summary.users == len({row[0] for row in rows}) == 50
    assert summary.rows == sum(summary.behaviors.values()) == len(rows)
    assert summary.behaviors == {name: sum(row[3] == name for row in rows) for name in BEHAVIORS}
    assert not any(summary.dirt.values())


def test_equal_seeds_give_equal_bytes_and_other_seeds_others(tmp_path: Path) -> None:
    def written(name: str, seed: int) -> bytes:
        dirt = DirtConfig(duplicate=5, wrong_field_count=5, outside_window=0.01, two_category_items=2)
        path = tmp_path / name
        generate(GeneratorConfig(users=1100, seed=seed, dirt=dirt), path)
        return path.read_bytes()

    assert written("a.csv", 3) == written("b.csv", 3) != written("c.csv", 4)
    assert written("a.csv.gz", 3) == written("b.csv.gz", 3)
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()


def test_another_year_has_the_same_rows_as_much_later(tmp_path: Path) -> None:
    dirt = DirtConfig(outside_window=50, negative_timestamp=20)
    here, later = (
        GeneratorConfig(users=30, seed=7, dirt=dirt),
        GeneratorConfig(users=30, seed=7, dirt=dirt, start=dt.date(2024, 5, 1)),
    )
    first, second = (tmp_path / name for name in ("here.csv", "later.csv"))
    generate(here, first)
    generate(later, second)
    window = IngestConfig(window_start=dt.datetime(2024, 5, 1), window_end=dt.datetime(2024, 5, 9, 23, 59, 59)).window
    assert later.window == window
    delay = window[0] - here.window[0]

    def clean(file: Path, config: GeneratorConfig) -> list[tuple[str, ...]]:
        rows = [row for row in _rows(file) if config.window[0] <= int(row[4]) <= config.window[1]]
        assert len(_rows(file)) - len(rows) == 70
        return sorted((*row[:4], str(int(row[4]) - config.delay)) for row in rows)

    assert (here.delay, later.delay) == (0, delay)
    assert clean(first, here) == clean(second, later)


def test_a_block_does_not_depend_on_the_blocks_after_it(tmp_path: Path) -> None:
    block = behavior_log.USERS_PER_BLOCK
    for users in (block, 2 * block):
        generate(GeneratorConfig(users=users, seed=5, events_per_user=20), tmp_path / f"{users}.csv")
    assert (tmp_path / f"{2 * block}.csv").read_bytes().startswith((tmp_path / f"{block}.csv").read_bytes())


def test_blocks_differ(tmp_path: Path) -> None:
    block = behavior_log.USERS_PER_BLOCK
    generate(GeneratorConfig(users=2 * block, seed=5, events_per_user=20), tmp_path / "log.csv")
    rows = _rows(tmp_path / "log.csv")
    users = sorted({int(row[0]) for row in rows})
    second = str(users[block])
    assert [row[1:] for row in rows if row[0] == "1"] != [row[1:] for row in rows if row[0] == second]


def test_progress_is_told_each_block(tmp_path: Path) -> None:
    calls: list[int] = []
    users = 2 * behavior_log.USERS_PER_BLOCK + 17
    generate(GeneratorConfig(users=users, events_per_user=10), tmp_path / "log.csv", progress=calls.append)
    assert calls == [behavior_log.USERS_PER_BLOCK, behavior_log.USERS_PER_BLOCK, 17]


def test_no_bar_where_there_is_no_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    generate(GeneratorConfig(users=5), tmp_path / "log.csv")
    assert capfd.readouterr() == ("", "")


def test_a_bar_where_there_is_a_terminal(tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-c", GENERATE, "5", str(tmp_path / "log.csv")]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=end)
    os.close(end)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "log.csv: 100%" in shown
    assert "5/5" in shown


@pytest.mark.parametrize("name", ["log", "log.txt", "log.csv.zip"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"must end in \.csv or \.csv\.gz"):
        generate(GeneratorConfig(users=1), tmp_path / name)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        generate(GeneratorConfig(users=1), tmp_path / "nowhere" / "log.csv")


def test_a_broken_off_run_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(GeneratorConfig(users=5), path, progress=interrupt)
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]
    assert path.read_text() == "old"


@settings(max_examples=30, deadline=None)
@given(
    users=st.integers(1, 30),
    seed=st.integers(0, 2**63 - 1),
    categories=st.integers(1, 40),
    spare_items=st.integers(0, 100),
    events=st.floats(10, 300),
    crlf=st.booleans(),
)
def test_any_possible_configuration_gives_a_log(
    tmp_path_factory: pytest.TempPathFactory,
    users: int,
    seed: int,
    categories: int,
    spare_items: int,
    events: float,
    crlf: bool,
) -> None:
    config = GeneratorConfig(
        users=users,
        seed=seed,
        categories=categories,
        items=categories + spare_items,
        events_per_user=events,
        dirt=DirtConfig(crlf=crlf),
    )
    summary = generate(config, tmp_path_factory.mktemp("any") / "log.csv")
    end = b"\r\n" if crlf else b"\n"
    lines = summary.path.read_bytes().split(end)
    assert lines.pop() == b""
    rows = [line.split(b",") for line in lines]
    assert all(len(row) == 5 for row in rows)
    assert len(rows) == len(set(map(tuple, rows))) == summary.rows
    assert len({row[0] for row in rows}) == users
    assert len({row[1] for row in rows}) <= categories + spare_items
    assert len({row[2] for row in rows}) <= categories
    assert len({(row[1], row[2]) for row in rows}) == len({row[1] for row in rows})


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    def peak(users: int) -> int:
        command = [sys.executable, "-c", GENERATE, str(users), str(tmp_path / f"{users}.csv")]
        return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)

    block = behavior_log.USERS_PER_BLOCK
    small, large = peak(2 * block), peak(8 * block)
    assert (tmp_path / f"{8 * block}.csv").stat().st_size > 3.5 * (tmp_path / f"{2 * block}.csv").stat().st_size
    assert large < 1.2 * small


@pytest.mark.parametrize(("like", "suffix"), [("shop", ".csv.gz"), ("amazon-reviews", ".json")])
def test_other_forms_hold_the_same_users_and_items(like: str, suffix: str, tmp_path: Path) -> None:
    config = GeneratorConfig.model_validate({"users": 40, "seed": 3, "items": 500, "categories": 9, "like": like})
    made = generate(config, tmp_path / f"log{suffix}")
    again = generate(config, tmp_path / f"again{suffix}")
    assert made.path.read_bytes() == again.path.read_bytes()
    assert made.rows == sum(made.behaviors.values())
    public = generate(config.model_copy(update={"like": "public"}), tmp_path / "log.csv")
    pairs = {tuple(line.split(",")[:2]) for line in public.path.read_text().splitlines()}
    assert made.rows == (public.rows if like == "shop" else len(pairs))
    with pytest.raises(ValueError, match=r"must end in \.(csv or \.csv\.gz|json or \.json\.gz)"):
        generate(config, tmp_path / "log.parquet")
    with pytest.raises(ValueError, match="dirt is of the public log's form"):
        GeneratorConfig.model_validate({"users": 40, "like": like, "dirt": {"duplicate": 1}})

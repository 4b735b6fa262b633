from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ctr.components.settings import IngestConfig
from ctr.generator.behavior_log import USERS_PER_BLOCK, DirtConfig, GeneratorConfig, generate

INTEGER = re.compile(r"-?[0-9]+")
BEHAVIORS = ("pv", "cart", "fav", "buy")
WANTED = {
    "negative_timestamp": 38,
    "outside_window": 555,
    "duplicate": 49,
    "wrong_field_count": 11,
    "not_an_integer": 12,
    "unknown_behavior": 13,
    "two_category_items": 14,
}
USERS = USERS_PER_BLOCK + 300


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks, the second one partial, with every kind of dirt."""
    path = tmp_path_factory.mktemp("dirty") / "log.csv"
    summary = generate(_config(DirtConfig.model_validate(WANTED)), path)
    assert summary.dirt == {**WANTED, "two_category_items": 2 * WANTED["two_category_items"]}
    assert summary.rows == len(path.read_text().splitlines())
    return path


def _config(dirt: DirtConfig) -> GeneratorConfig:
    return GeneratorConfig(users=USERS, seed=3, events_per_user=40, dirt=dirt)


def _sorted_out(lines: list[str]) -> tuple[Counter[str], list[str]]:
    """What an independent reader finds, row by row: bad rows by kind, and the good rows."""
    first, last = IngestConfig().window
    found: Counter[str] = Counter()
    good: dict[str, None] = {}
    for line in lines:
        fields = line.split(",")
        if len(fields) != 5:
            found["wrong_field_count"] += 1
        elif not all(INTEGER.fullmatch(fields[place]) for place in (0, 1, 2, 4)):
            found["not_an_integer"] += 1
        elif fields[3] not in BEHAVIORS:
            found["unknown_behavior"] += 1
        elif int(fields[4]) < 0:
            found["negative_timestamp"] += 1
        elif not first <= int(fields[4]) <= last:
            found["outside_window"] += 1
        elif line in good:
            found["duplicate"] += 1
        else:
            good[line] = None
    categories: dict[str, set[str]] = {}
    for line in good:
        _, item, category, _, _ = line.split(",")
        categories.setdefault(item, set()).add(category)
    found["two_category_items"] = sum(len(of_item) == 2 for of_item in categories.values())
    assert all(len(of_item) <= 2 for of_item in categories.values())
    return found, [line for line in good if len(categories[line.split(",")[1]]) == 1]


def test_each_kind_comes_to_exactly_its_count(dirty: Path) -> None:
    found, _ = _sorted_out(dirty.read_text().splitlines())
    assert found == WANTED


def test_without_its_dirt_it_is_the_clean_log(dirty: Path, tmp_path: Path) -> None:
    generate(_config(DirtConfig()), tmp_path / "clean.csv")
    _, good = _sorted_out(dirty.read_text().splitlines())
    assert good == (tmp_path / "clean.csv").read_text().splitlines()


def test_dirt_is_spread_over_the_blocks(dirty: Path) -> None:
    lines = dirty.read_text().splitlines()
    user_of_second_block = 1 + USERS_PER_BLOCK + USERS_PER_BLOCK // 33
    place = next(n for n, line in enumerate(lines) if line.startswith(f"{user_of_second_block},"))
    before, after = (_sorted_out(part)[0] for part in (lines[:place], lines[place:]))
    assert all(before[kind] > 0 and after[kind] > 0 for kind in WANTED)


def test_readable_rows_stay_by_user_and_time(dirty: Path) -> None:
    readable = []
    for line in dirty.read_text().splitlines():
        fields = line.split(",")
        if len(fields) == 5 and all(INTEGER.fullmatch(fields[place]) for place in (0, 4)) and fields[3] in BEHAVIORS:
            readable.append((int(fields[0]), int(fields[4])))
    negatives = sum(time < 0 for _, time in readable)
    assert negatives >= WANTED["negative_timestamp"]
    assert readable == sorted(readable)


def test_rows_outside_are_on_both_sides_near_and_far(dirty: Path) -> None:
    first, last = IngestConfig().window
    times = [int(line.split(",")[4]) for line in dirty.read_text().splitlines() if _well_formed(line)]
    outside = np.array([time for time in times if time >= 0 and not first <= time <= last])
    assert len(outside) == WANTED["outside_window"]
    near = (outside >= first - 86_400) & (outside <= last + 86_400)
    assert 0.85 < near.mean() < 1
    assert 0.4 < (outside < first).mean() < 0.6


def _well_formed(line: str) -> bool:
    fields = line.split(",")
    return (
        len(fields) == 5 and all(INTEGER.fullmatch(fields[place]) for place in (0, 1, 2, 4)) and fields[3] in BEHAVIORS
    )


def test_a_rate_gives_that_share_of_rows(tmp_path: Path) -> None:
    config = _config(DirtConfig(outside_window=0.05, wrong_field_count=0.001))
    generate(config, tmp_path / "log.csv")
    found, _ = _sorted_out((tmp_path / "log.csv").read_text().splitlines())
    assert found["outside_window"] == round(0.05 * config.expected_rows)
    assert found["wrong_field_count"] == round(0.001 * config.expected_rows)


def test_crlf_ends_every_line_of_the_same_log(dirty: Path, tmp_path: Path) -> None:
    dirt = DirtConfig.model_validate({**WANTED, "crlf": True})
    generate(_config(dirt), tmp_path / "log.csv")
    assert (tmp_path / "log.csv").read_bytes() == dirty.read_bytes().replace(b"\n", b"\r\n")

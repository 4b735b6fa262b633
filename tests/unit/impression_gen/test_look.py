"""A look before anything runs: what it refuses, what it leaves to the ingest, and that it is light and quick."""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from ctr.components.impression_gen import look
from ctr.components.impression_gen.look import look_at
from ctr.components.impression_gen.sources import NoLogError
from ctr.components.settings import IngestConfig
from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import GeneratorConfig

START, END = IngestConfig().window
SAMPLE = Path(__file__).parents[4] / "shared/data/UserBehavior_sample.csv.gz"
ROWS = "".join(f"{1 + i % 20},{10 + i % 37},{1 + i % 37 % 4},pv,{START + 3000 * i}\n" for i in range(200))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 300 users that is seen as a whole."""
    path = tmp_path_factory.mktemp("generated") / "log.csv"
    assert generate(GeneratorConfig(users=300, seed=7), path).path.stat().st_size < look.BYTES
    return path


@pytest.fixture(scope="module")
def generated_rows(generated: Path) -> list[list[str]]:
    """Its rows; not to be changed."""
    return [line.split(",") for line in generated.read_text().split()]


def permuted(rows: list[list[str]], order: tuple[int, ...], path: Path) -> str:
    path.write_text("".join(",".join(row[place] for place in order) + "\n" for row in rows))
    return str(path)


def test_a_good_log_gives_the_catalogue_of_its_train_split(generated: Path) -> None:
    catalogue = look_at(str(generated), IngestConfig())
    assert catalogue is not None
    assert len(catalogue.item_ids) > 10_000


@pytest.mark.parametrize("order", [order for order in itertools.permutations(range(5)) if order != (0, 1, 2, 3, 4)])
def test_each_other_order_of_the_columns_is_refused(
    generated_rows: list[list[str]], order: tuple[int, ...], tmp_path: Path
) -> None:
    ids_alone = order[3:] == (3, 4)
    rows = generated_rows if ids_alone else generated_rows[:400]
    with pytest.raises(
        ValueError, match=r"max_items_with_several_categories" if ids_alone else "cannot be used"
    ) as refused:
        look_at(permuted(rows, order, tmp_path / "log.csv"), IngestConfig())
    assert "user_id,item_id,category_id,behavior,timestamp" in str(refused.value)


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"the real excerpt is not at {SAMPLE}")
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_real_excerpt_is_plausible_in_the_right_order_alone(
    order: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "BYTES", 8 << 20)
    rows = [line.split(",") for line in gzip.decompress(SAMPLE.read_bytes()).decode().splitlines()]
    rows = [row for row in rows if len(row) == 5]
    data = permuted(rows, (*order, 3, 4), tmp_path / "log.csv")
    if order == (0, 1, 2):
        assert look_at(data, IngestConfig()) is not None
        return
    with pytest.raises(ValueError, match=r"ingest\.plausibility\.max_items_with_several_categories"):
        look_at(data, IngestConfig())


@pytest.mark.parametrize(
    "settings",
    [
        {"users": 100},
        {"users": 100, "items": 300, "categories": 10},
        {"users": 300, "items": 20_000},
        {"users": 12, "events_per_user": 100},
        {"users": 60, "events_per_user": 1000},
        {"users": 1000, "events_per_user": 10, "categories": 30},
    ],
    ids=str,
)
def test_generated_logs_of_any_kind_are_plausible(
    settings: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "BYTES", 16 << 20)
    made = generate(GeneratorConfig.model_validate(settings), tmp_path / "log.csv")
    assert look_at(str(made.path), IngestConfig(targets_per_user=8)) is not None


@pytest.mark.parametrize("column", range(5))
def test_a_constant_column_is_refused(generated_rows: list[list[str]], column: int, tmp_path: Path) -> None:
    value = ["7", "7", "7", "pv", str(START)][column]
    # What a user does to an item twice in one second is one row twice.
    rows = [list(row) for row in dict.fromkeys((*r[:column], value, *r[column + 1 :]) for r in generated_rows)]
    names = ("min_users", "min_items", "min_categories", "max_pv_share", "leave nothing for validation and eval")
    with pytest.raises(ValueError, match=names[column]):
        look_at(permuted(rows, (0, 1, 2, 3, 4), tmp_path / "log.csv"), IngestConfig())


def test_a_log_that_is_not_seen_as_a_whole_is_left_to_the_ingest(
    generated: Path, generated_rows: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = permuted(generated_rows, (1, 0, 2, 3, 4), tmp_path / "log.csv")
    monkeypatch.setattr(look, "BYTES", 10_000)
    for data in (str(generated), swapped):
        assert look_at(data, IngestConfig()) is None
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(generated.read_bytes()))
    assert look_at(str(tmp_path / "log.csv.gz"), IngestConfig()) is None
    assert look_at("gs://bucket/log.csv", IngestConfig()) is None


def test_of_a_large_log_the_form_of_the_first_rows_is_judged_and_not_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "BYTES", 1000)
    log = tmp_path / "log.csv"
    # Sorted by time, what is outside of the window comes first.
    log.write_text(f"1,2,3,pv,{START - 9}\n" * 1000)
    assert look_at(str(log), IngestConfig()) is None
    log.write_text(f"1,2,3,pv,{START}\n" + "1;2;3;pv;4\n" * 1000)
    assert look_at(str(log), IngestConfig()) is None, "one of the rows is good"
    for row, says in (
        ("1;2;3;pv;4", "semicolons"),
        (f"1,2,3,pv,{START}123", "milliseconds"),
        ("a,b", "2 fields, not 5"),
    ):
        log.write_text(f"{row}\n" * 1000)
        with pytest.raises(ValueError, match=rf"(?s)of the first \d+ rows cannot be used.*{says}"):
            look_at(str(log), IngestConfig())


def test_every_file_is_looked_at(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"part-{i:02}.csv").write_text(ROWS)
    assert look_at(str(tmp_path), IngestConfig()) is None
    (tmp_path / "part-29.csv").write_bytes(gzip.compress(ROWS.encode()))
    with pytest.raises(ValueError, match=r"part-29\.csv: by its first bytes it is gzip"):
        look_at(str(tmp_path), IngestConfig())


def test_one_log_twice_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    with pytest.raises(ValueError, match=r"(?s)200 of 400 rows.*b\.csv\.gz repeats rows of a\.csv"):
        look_at(str(tmp_path), IngestConfig())


def test_spans_are_found(tmp_path: Path) -> None:
    (tmp_path / "day-1.csv").write_text("bad\n")
    (tmp_path / "day-2.csv").write_text(ROWS)
    data = str(tmp_path / "day-{SPAN}.csv")
    assert look_at(data, IngestConfig()) is not None
    with pytest.raises(ValueError, match=r"day-1\.csv, line 1: bad"):
        look_at(data, IngestConfig(), span=1)
    with pytest.raises(NoLogError, match="no log for 3"):
        look_at(data, IngestConfig(), span=3)


def test_a_day_in_the_path_is_the_last_of_the_window(tmp_path: Path) -> None:
    for name, start in (("2017-12-03", dt.date(2017, 11, 25)), ("2024-05-09", dt.date(2024, 5, 1))):
        generate(GeneratorConfig(users=20, start=start), tmp_path / f"{name}.csv")
    data, days = str(tmp_path / "{YYYY}-{MM}-{DD}.csv"), (dt.date(2017, 12, 3) - dt.date(1970, 1, 1)).days
    assert look_at(data, IngestConfig()) is not None
    assert look_at(data, IngestConfig(), span=days) is not None
    with pytest.raises(ValueError, match=r"from 2024-05-08 00:00:00 to 2024-05-09 23:59:59 \(ingest\.window_start, "):
        look_at(data, IngestConfig(window_days=2))


def test_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; import ctr.components.impression_gen.look, ctr.components.examples.vocabulary; "
        "print([name for name in ('apache_beam', 'tensorflow', 'tfx', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

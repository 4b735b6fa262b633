"""The ingest on Beam: what it refuses, that only the events decide the result, and the real excerpt."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import zipfile
from bisect import bisect_left, bisect_right
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ingest_runs import WINDOW_START, Ingested, as_csv, ingest_files, random_rows
from pages import ROOT
from sklearn.metrics import roc_auc_score

from ctr.components.counting import CountsConfig
from ctr.components.impression_gen.sources import find_logs
from ctr.components.settings import IngestConfig, PlausibilityConfig
from ctr.models.impression import CONTEMPORANEOUS, NEGATIVE_SETS, REVISIT, SPLITS
from ctr.models.negatives import StoredNegatives
from ctr.models.registration import load_plugins

SAMPLE = Path(__file__).parents[4] / "shared/data/UserBehavior_sample.csv.gz"
START, END = IngestConfig().window
SETTINGS = IngestConfig(
    user_partitions=3,
    block_megabytes=1,
    targets_per_user=5,
    training_negatives=StoredNegatives(uniform=1, same_category=1, contemporaneous=1),
)
UNCHANGED = "c52cf9e6737128f68803d3d2e1e09aec0e1554bd60bb21453d3df0b25485ca2f"
"""SHA-256 of what the ingest wrote of a log before there were declared features."""
SETTINGS_FOR_DIRT = IngestConfig(user_partitions=2, max_quarantined_share=1)


def check_sums(done: Ingested) -> None:
    """Nothing is lost without a count, and the counts are of what was written."""
    summary = done.summary
    assert summary.rows_read == summary.rows_kept + sum(summary.quarantined.values())
    assert summary.rows_kept == sum(summary.events.values())
    assert len(done.quarantine()) == sum(summary.quarantined.values())
    for split in ("train", "validation"):
        assert summary.events[split] == summary.impressions[split] + sum(summary.dropped[split].values())
    for split in SPLITS:
        for parts in (summary.behaviors[split], summary.hours[split]):
            assert sum(parts.values()) == summary.events[split]
    for kind in NEGATIVE_SETS:
        others = sum(n for reason, n in summary.dropped["eval"].items() if not reason.startswith("no_negative"))
        missing = summary.dropped["eval"][f"no_negative:{kind}"]
        assert summary.events["eval"] == summary.eval_impressions[kind] + missing + others
    for split in SPLITS:
        assert len(done.serialized(split)) == summary.impressions[split]
    assert done.catalogue.item_counts.sum() == done.catalogue.category_counts.sum() == summary.events["train"]


def test_every_kind_of_dirt_is_counted_with_its_line(tmp_path: Path) -> None:
    good = [f"{1 + i % 3},{10 + i},{1 + i % 2},pv,{START + 60 * i}" for i in range(60)]
    first = [
        *good[:2],
        "1,10,1,pv",
        f"user_id,item_id,category_id,behavior_type,{START}",
        f"0,10,1,pv,{START}",
        f"1,10,1,click,{START}",
        "1,10,1,pv,-2134949234",
        f"1,10,1,pv,{START - 1}",
        f"1,10,1,pv,{END + 1}",
        good[0],
        "",
        f"1,1\t0\\,1,pv,{START}",
    ]
    second = [f"1,777,1,pv,{START}", *good[2:], good[0], good[7], good[7], f"2,778,1,buy,{END}"]
    (tmp_path / "a.csv").write_text("\n".join(first) + "\n")
    (tmp_path / "b.csv").write_text("\r\n".join(second))
    done = ingest_files([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out", SETTINGS_FOR_DIRT)
    assert done.quarantine() == [
        ["a.csv", "3", "wrong_field_count", "4 fields, not 5", "1,10,1,pv"],
        ["a.csv", "4", "not_an_integer", "user_id", f"user_id,item_id,category_id,behavior_type,{START}"],
        ["a.csv", "5", "id_out_of_range", "user_id", f"0,10,1,pv,{START}"],
        ["a.csv", "6", "unknown_behavior", "behavior", f"1,10,1,click,{START}"],
        ["a.csv", "7", "negative_timestamp", "timestamp", "1,10,1,pv,-2134949234"],
        ["a.csv", "8", "outside_window", "before window_start", f"1,10,1,pv,{START - 1}"],
        ["a.csv", "9", "outside_window", "after window_end", f"1,10,1,pv,{END + 1}"],
        ["a.csv", "10", "duplicate", "first at a.csv:1", good[0]],
        ["a.csv", "11", "wrong_field_count", "blank line", ""],
        ["a.csv", "12", "not_an_integer", "item_id", f"1,1\\t0\\\\,1,pv,{START}"],
        ["b.csv", "60", "duplicate", "first at a.csv:1", good[0]],
        ["b.csv", "61", "duplicate", "first at b.csv:7", good[7]],
        ["b.csv", "62", "duplicate", "first at b.csv:7", good[7]],
    ]
    summary = done.summary
    assert summary.files == ["a.csv", "b.csv"]
    assert (summary.rows_read, summary.rows_kept, summary.users) == (12 + 63, 62, 3)
    assert {reason: count for reason, count in summary.quarantined.items() if count} == {
        "wrong_field_count": 2,
        "not_an_integer": 2,
        "id_out_of_range": 1,
        "unknown_behavior": 1,
        "negative_timestamp": 1,
        "outside_window": 2,
        "duplicate": 4,
    }
    check_sums(done)
    # The first row of each file and both ends of the window are events.
    assert {10, 777} <= set(done.catalogue.item_ids.tolist())
    assert 778 in {e["candidate_item_id"][0] for e in done.impressions("eval")}


def test_lines_are_true_in_any_block(tmp_path: Path) -> None:
    rows = as_csv(random_rows(seed=2, rows=100_000, users=500, items=5000, categories=40, seconds=700_000)).splitlines()
    bad = [1, 2, 9999, 50_000, 77_777, len(rows)]
    for line in bad:
        rows[line - 1] = b"bad row %d" % line
    data = b"\n".join(rows)
    assert len(data) > 2 * SETTINGS.block_megabytes << 20, "too small to be cut into blocks"
    (tmp_path / "log.csv").write_bytes(data)
    done = ingest_files([tmp_path / "log.csv"], tmp_path / "out", SETTINGS)
    found = [row for row in done.quarantine() if row[2] != "duplicate"]
    assert [(int(line), text) for _, line, _, _, text in found] == [(line, f"bad row {line}") for line in bad]
    for _, line, _, detail, text in (row for row in done.quarantine() if row[2] == "duplicate"):
        assert rows[int(line) - 1].decode() == text
        assert rows[int(detail.removeprefix("first at log.csv:")) - 1].decode() == text


@pytest.fixture(scope="module")
def big_log() -> bytes:
    """Above 1 MB, so that blocks of 1 MB cut it; with ties in time."""
    return as_csv(random_rows(seed=1, rows=60_000, users=500, items=5000, categories=40, seconds=40_000))


@pytest.fixture(scope="module")
def baseline(big_log: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("baseline")
    (folder / "log.csv").write_bytes(big_log)
    done = ingest_files([folder / "log.csv"], folder / "out", SETTINGS)
    check_sums(done)
    assert done.summary.quarantined["duplicate"] >= 480
    files = done.files("examples", "catalogue")
    assert len(files) == 3 * SETTINGS.user_partitions + 2
    return files


def write_variant(name: str, log: bytes, folder: Path) -> None:
    lines = log.splitlines(keepends=True)
    if name == "four files":
        cuts = [0, 7, 20_000, 20_001, len(lines)]
        for i in range(4):
            (folder / f"part-{i}.csv").write_bytes(b"".join(lines[cuts[i] : cuts[i + 1]]))
    elif name == "gz":
        (folder / "log.csv.gz").write_bytes(gzip.compress(log[:100_000]) + gzip.compress(log[100_000:]))
    elif name == "zip":
        with zipfile.ZipFile(folder / "log.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("UserBehavior-1.csv", b"".join(lines[:33_333]))
            archive.writestr("UserBehavior-2.csv", b"".join(lines[33_333:]))
    elif name == "CRLF, byte order mark, no last line end":
        (folder / "log.csv").write_bytes(b"\xef\xbb\xbf" + log.removesuffix(b"\n").replace(b"\n", b"\r\n"))
    else:
        (folder / "log.csv").write_bytes(log)


@pytest.mark.parametrize(
    "variant", ["again", "blocks of 8 MB", "four files", "gz", "zip", "CRLF, byte order mark, no last line end"]
)
def test_bytes_do_not_depend_on_how_the_log_is_stored(
    variant: str, big_log: bytes, baseline: dict[str, bytes], tmp_path: Path
) -> None:
    write_variant(variant, big_log, tmp_path)
    ingest = SETTINGS.model_copy(update={"block_megabytes": 8}) if variant == "blocks of 8 MB" else SETTINGS
    done = ingest_files([Path(p) for p in find_logs(str(tmp_path)).files], tmp_path / "out", ingest)
    assert done.files("examples", "catalogue") == baseline


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_workers(
    big_log: bytes, baseline: dict[str, bytes], plugins: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor do those of a plugin's features, which a worker that is a process has to import, nor counts."""
    ingest = SETTINGS.model_copy(update={"counts": CountsConfig(item=(3600, "all"), category=("all",))})
    (tmp_path / "log.csv").write_bytes(big_log)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, plugins))))
    load_plugins(["my_shop.fields"])
    here = ingest_files([tmp_path / "log.csv"], tmp_path / "here", ingest).files("examples", "catalogue")
    flags = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    done = ingest_files([tmp_path / "log.csv"], tmp_path / "out", ingest, *flags)
    assert done.files("examples", "catalogue") == here
    assert here.keys() - baseline.keys() == {"catalogue/item_events.tsv", "catalogue/category_events.tsv"}
    assert here != baseline, "the features are in the examples"


def test_other_partitions_and_another_order_of_lines_give_the_same_impressions(tmp_path: Path) -> None:
    rows = random_rows(seed=5, rows=4000, users=60, items=900, categories=20, seconds=20_000)
    assert len({(row[0], row[4]) for row in rows}) < len(set(rows)), "no ties within a user"
    found = []
    for name, ordered, partitions in (("a", rows, 1), ("b", rows[::-1], 5), ("c", sorted(rows), 5)):
        (tmp_path / f"{name}.csv").write_bytes(as_csv(ordered))
        ingest = SETTINGS.model_copy(update={"user_partitions": partitions})
        done = ingest_files([tmp_path / f"{name}.csv"], tmp_path / name, ingest)
        # The shards' order is that of the users' hashes, however many there are.
        found.append(({split: done.serialized(split) for split in SPLITS}, done.files("catalogue")))
    assert found[0] == found[1] == found[2]
    records = b"".join(itertools.chain.from_iterable(found[0][0].values()))
    assert hashlib.sha256(records).hexdigest() == UNCHANGED, "the impressions of the public form, to the byte"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\nc\n", r"2 of 2 rows cannot be used \(100.00%\).*expected lines user_id,item_id"),
        ("", r"the log has no row; expected lines user_id,item_id"),
        (f"1,2,3,pv,{START}\n1,3,3,pv,{START + 1}\n", "leave nothing for validation and eval"),
    ],
)
def test_a_log_that_cannot_be_learnt_from_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(Exception, match=message):
        ingest_files([tmp_path / "log.csv"], tmp_path / "out", IngestConfig())


def test_the_log_of_another_window(tmp_path: Path) -> None:
    """Settings of the window are local times of the log."""
    lines = [f"{1 + i % 2},{5 + i},1,pv,{WINDOW_START + 3600 * i}" for i in range(30)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    # The window is a part of the log on purpose.
    ingest = IngestConfig.model_validate(
        {
            "window_start": "2017-11-25T01:00:00",
            "window_end": "2017-11-26T03:00:00",
            "max_quarantined_share_by_reason": {"outside_window": 1},
        }
    )
    done = ingest_files([tmp_path / "log.csv"], tmp_path / "out", ingest)
    assert done.summary.quarantined["outside_window"] == 3
    assert done.summary.rows_kept == 27


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    if not SAMPLE.exists():
        pytest.skip(f"the real excerpt is not at {SAMPLE}")
    return ingest_files([SAMPLE], tmp_path_factory.mktemp("sample"), IngestConfig())


def test_the_real_excerpt_adds_up(sample: Ingested) -> None:
    check_sums(sample)
    summary = sample.summary
    assert summary.rows_read == 73_899
    assert summary.users == 699
    assert summary.events["eval"] == pytest.approx(0.2 * summary.rows_kept, rel=0.001)
    assert summary.events["validation"] == pytest.approx(0.1 * summary.rows_kept, rel=0.001)
    with gzip.open(SAMPLE, "rt") as lines:
        fields = [line.strip().split(",") for line in lines]
    evaluated = [(row[3], int(row[4])) for row in fields if len(row) == 5 and summary.eval_start <= int(row[4]) <= END]
    assert summary.behaviors["eval"] == Counter(behavior for behavior, _ in evaluated)
    assert summary.hours["eval"] == Counter(second // 3600 for _, second in evaluated)


def test_negatives_of_the_real_excerpt(sample: Ingested) -> None:
    """None from the user's own log but revisits, which are of the history; contemporaneous ones are events of others in
    the window after t."""
    summary = sample.summary
    log: list[tuple[int, int, int, int]] = []
    with gzip.open(SAMPLE, "rt") as lines:
        for line in lines:
            fields = line.strip().split(",")
            if len(fields) == 5 and START <= int(fields[4]) <= END:
                log.append((int(fields[4]), int(fields[0]), int(fields[1]), int(fields[2])))
    log.sort()
    times = [event[0] for event in log]
    own: dict[int, set[int]] = {}
    # Where in the log an item is with this category.
    places: dict[tuple[int, int], list[int]] = {}
    for place, (_, user, item, category) in enumerate(log):
        own.setdefault(user, set()).add(item)
        places.setdefault((item, category), []).append(place)
    boundaries = [0, summary.validation_start, summary.eval_start, END + 1]
    checked = revisits = 0
    for index, split in enumerate(SPLITS):
        for impression in sample.impressions(split):
            user, t = impression["user_id"][0], impression["timestamp"][0]
            positive, *drawn = impression["candidate_item_id"]
            assert boundaries[index] <= t < boundaries[index + 1]
            assert positive in own[user]
            assert len({positive, *drawn}) == 1 + len(drawn)
            pairs = set(zip(drawn, impression["candidate_category_id"][1:], strict=True))
            if impression["negative_set"] == [REVISIT.encode()]:
                history = zip(impression["history_item_id"], impression["history_category_id"], strict=True)
                assert pairs <= set(history)
                revisits += 1
                continue
            assert not own[user] & set(drawn)
            if split != "eval" or impression["negative_set"] == [CONTEMPORANEOUS.encode()]:
                first = bisect_right(times, t)
                # A tied second at the window's end may be ordered otherwise here: all of it is admitted.
                last = bisect_left(times, boundaries[index + 1])
                if first + 600 < last:
                    last = bisect_right(times, times[first + 599])
                for pair in pairs:
                    of_pair = places[pair]
                    of_window = of_pair[bisect_left(of_pair, first) : bisect_left(of_pair, last)]
                    assert any(log[place][1] != user for place in of_window)
                checked += 1
    assert checked > 70_000
    assert revisits == summary.eval_impressions[REVISIT] > 14_000


def test_popularity_tells_nothing_about_contemporaneous_negatives(sample: Ingested) -> None:
    catalogue = sample.catalogue
    counts = dict(zip(catalogue.item_ids.tolist(), catalogue.item_counts.tolist(), strict=True))
    auc = {}
    all_sets = sample.impressions("eval")
    for kind in NEGATIVE_SETS:
        impressions = [i for i in all_sets if i["negative_set"] == [kind.encode()]]
        labels = np.array([i["label"] for i in impressions]).ravel()
        scores = np.array([[counts.get(item, 0) for item in i["candidate_item_id"]] for i in impressions]).ravel()
        auc[kind] = (roc_auc_score(labels, scores), roc_auc_score(labels, scores > 0))
    print({kind: tuple(f"{value:.3f}" for value in values) for kind, values in auc.items()}, "popularity, coldness")
    assert auc[CONTEMPORANEOUS] == pytest.approx((0.5, 0.5), abs=0.02)
    # A draw over the catalogue betrays itself: only what was seen in train can be drawn.
    assert auc["uniform"][1] < 0.4


def test_one_user_with_many_events_and_many_users_with_one(tmp_path: Path) -> None:
    many, each = 100_000, 100_000
    with (tmp_path / "log.csv").open("w") as log:
        for i in range(many):
            log.write(f"7,{1 + i % 977},{1 + i % 977 % 13},pv,{START + 7 * i}\n")
        for user in range(8, 8 + each):
            log.write(f"{user},{1 + user % 5000},{1 + user % 5000 % 13},buy,{START + 7 * user}\n")
    unusual = PlausibilityConfig(min_events_per_user=None, max_buy_share=None)
    ingest = SETTINGS.model_copy(update={"user_partitions": 8, "targets_per_user": 300, "plausibility": unusual})
    done = ingest_files([tmp_path / "log.csv"], tmp_path / "out", ingest)
    check_sums(done)
    assert done.summary.users == 1 + each
    assert sum(lost["short_history"] for lost in done.summary.dropped.values()) == 1 + each
    for split in SPLITS:
        impressions = done.impressions(split)
        # The last ones of a split have no contemporaneous events after them.
        assert 290 < len({i["timestamp"][0] for i in impressions}) <= 300
        assert {(i["user_id"][0], len(i["history_item_id"])) for i in impressions} == {(7, ingest.history_length)}

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from baseline_data import TIME, impression, write
from sklearn.metrics import roc_auc_score

from ctr.components.baselines import compute as engine
from ctr.components.baselines.columns import Columns
from ctr.components.dataset import PUBLIC_LOG
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.impressions import Impressions
from ctr.components.scoring.auc import auc
from ctr.components.scoring.baselines import BASELINES, BaselineResults
from ctr.components.scoring.scored_shards import ScoredShard, joined
from ctr.models.errors import DataError
from ctr.models.impression import CANDIDATE_ITEM_ID, CANDIDATE_ITEM_INDEX, LABEL, NEGATIVE_SETS

RNG = np.random.default_rng(9)
ITEMS = RNG.permutation(np.arange(10, 600))
COUNTS = RNG.integers(0, 50, ITEMS.size)
CATALOGUE = Catalogue(ITEMS, ITEMS // 10, COUNTS, *[np.empty(0, np.int64)] * 2)
VALIDATION_START = TIME - 50_000


def compute(
    files: dict[str, list[str]],
    catalogue: Catalogue,
    training_impressions: int,
    seed: int,
    shards: dict[str, ScoredShard] | None = None,
) -> BaselineResults:
    """With ``shards`` given, they get the eval split's by the path of their files."""
    columns = Columns(catalogue, VALIDATION_START, ["candidate_category_id"], zone=PUBLIC_LOG.zone)
    write = ({} if shards is None else shards).__setitem__
    return engine.compute(files, catalogue, training_impressions, seed, columns, write)


@pytest.fixture(scope="module")
def results(split_files: dict[str, list[str]]) -> BaselineResults:
    return compute(split_files, CATALOGUE, training_impressions=10_000, seed=5)


def latest_age(row: dict[str, Any], category: int) -> float:
    ages = [a for c, a in zip(row["history_category_id"], row["history_age"], strict=True) if c == category]
    return -min(ages) if ages else -np.inf


@pytest.mark.parametrize("negative_set", NEGATIVE_SETS)
def test_scores_equal_a_loop_over_the_pairs(
    results: BaselineResults, split_rows: dict[str, list[dict[str, Any]]], negative_set: str
) -> None:
    count_of = dict(zip(ITEMS.tolist(), COUNTS.tolist(), strict=True))
    labels, popularity, recency, seen, new = [], [], [], [], []
    for row in split_rows["eval"]:
        if row["negative_set"].decode() == negative_set:
            labels += row["label"]
            popularity += [count_of.get(item, 0) for item in row["candidate_item_id"]]
            recency += [latest_age(row, category) for category in row["candidate_category_id"]]
            of_row = [item in row["history_item_id"] for item in row["candidate_item_id"]]
            seen += of_row
            new += [not of_row[0]] * len(of_row)
    result = results.sets[negative_set]
    assert (result.impressions, result.pairs, result.positives) == (150, len(labels), 150)
    finite = np.maximum(recency, -1e9)
    assert result.auc["popularity"] == pytest.approx(roc_auc_score(labels, popularity), abs=1e-9)
    assert result.auc["coldness"] == pytest.approx(roc_auc_score(labels, np.array(popularity) > 0), abs=1e-9)
    assert result.auc["category_recency"] == pytest.approx(roc_auc_score(labels, finite), abs=1e-9)
    assert result.auc["seen_before"] == pytest.approx(roc_auc_score(labels, seen), abs=1e-9)

    of_new = np.array(new)
    positive, was_seen = np.array(labels) == 1, np.array(seen)
    assert 0 < of_new.sum() < of_new.size
    assert result.pairs_new == of_new.sum()
    assert (result.seen_positives, result.seen_negatives) == ((was_seen & positive).sum(), (was_seen & ~positive).sum())
    assert min(result.seen_positives, result.seen_negatives) > 0
    for name, scores in (("seen_before", seen), ("popularity", popularity), ("category_recency", finite)):
        expected = roc_auc_score(positive[of_new], np.array(scores)[of_new])
        assert result.auc_new[name] == pytest.approx(expected, abs=1e-9)


def test_a_shard_has_its_impressions_in_their_order_with_what_they_are_sliced_by(
    split_files: dict[str, list[str]], split_rows: dict[str, list[dict[str, Any]]], results: BaselineResults
) -> None:
    shards: dict[str, ScoredShard] = {}
    compute(split_files, CATALOGUE, 10_000, seed=5, shards=shards)

    assert [*shards] == split_files["eval"]
    count_of = dict(zip(ITEMS.tolist(), COUNTS.tolist(), strict=True))
    for part, shard in enumerate(shards.values()):
        rows, scored = split_rows["eval"][part::2], shard.scored
        assert shard.timestamps.tolist() == [row["timestamp"][0] for row in rows]
        assert scored.users.tolist() == [row["user_id"][0] for row in rows]
        assert [NEGATIVE_SETS[i].encode() for i in scored.negative_set] == [row["negative_set"] for row in rows]
        assert scored.candidates.tolist() == [len(row["label"]) for row in rows]
        assert scored.labels.tolist() == [label for row in rows for label in row["label"]]
        for i, row in enumerate(rows):
            ages, count = row["history_age"], count_of.get(row["candidate_item_id"][0], 0)
            found = {name: str(values[i]) for name, values in scored.attributes.items()}
            assert found | {"popularity": ""} == {
                "history_length": "0" if not ages else "1-4" if len(ages) < 5 else "5-9",
                "behavior": ("pv", "cart", "fav", "buy")[len(ages) % 4],
                "item": "seen" if row["candidate_item_id"][0] in row["history_item_id"] else "new",
                "category": "seen" if row["candidate_category_id"][0] in row["history_category_id"] else "new",
                "catalogue": "known" if count else "cold",
                "user": "known" if any(row["timestamp"][0] - age < VALIDATION_START for age in ages) else "cold",
                "hour": f"{(row['timestamp'][0] // 3600 + 8) % 24:02}",
                "candidate_category_id": str(row["candidate_category_id"][0]),
                "popularity": "",
            }
            assert (found["popularity"] == "0") == (count == 0)
        assert all(len(set(values)) > 1 for values in scored.attributes.values())
    # The same scores as those whose AUC is in the results.
    whole = joined([shard.scored for shard in shards.values()])
    assert [*whole.scores] == [*BASELINES]
    of_set = np.repeat(whole.negative_set == NEGATIVE_SETS.index("uniform"), whole.candidates)
    for name, scores in whole.scores.items():
        assert auc(whole.labels[of_set], scores[of_set]) == results.sets["uniform"].auc[name]


def test_the_target_of_an_impression_without_a_positive_is_its_candidate(
    tmp_path: Path, split_files: dict[str, list[str]]
) -> None:
    history = [(20, 2, 1, 5)]
    rows = [impression("uniform", history, [30, 20]), impression("uniform", history, [20]) | {"label": [0]}]
    rows[0]["label"] = [0, 1]
    shards: dict[str, ScoredShard] = {}
    empty, file = write(tmp_path / "empty.gz", []), write(tmp_path / "eval.gz", rows)
    compute(split_files | {"eval": [empty, file]}, CATALOGUE, 100, seed=5, shards=shards)
    assert shards[file].scored.attributes["item"].tolist() == ["seen", "seen"]
    assert shards[empty].scored.users.size == 0


def test_impressions_without_what_is_needed_are_named(tmp_path: Path, split_files: dict[str, list[str]]) -> None:
    row = impression("uniform", [], [20, 30])
    del row["target_behavior"]
    file = write(tmp_path / "eval.gz", [row])
    with pytest.raises(DataError, match="eval.gz: no target_behavior in its impressions; they were written by another"):
        compute(split_files | {"eval": [file]}, CATALOGUE, 100, seed=5)


def test_regression_learns_what_the_recency_of_a_category_tells(results: BaselineResults) -> None:
    for result in results.sets.values():
        regression, recency = result.auc["logistic_regression"], result.auc["category_recency"]
        assert regression is not None
        assert recency is not None
        assert recency > 0.7
        assert regression > recency - 0.02
    assert results.fitted_impressions == 700


def test_unknown_shares_equal_a_loop_over_the_candidates(
    results: BaselineResults, split_rows: dict[str, list[dict[str, Any]]]
) -> None:
    assert len(results.unknown) == 2 + 2 + 2 * len(NEGATIVE_SETS)
    for share in results.unknown:
        rows = [r for r in split_rows[share.split] if r["negative_set"].decode() == share.negative_set]
        pick = slice(0, 1) if share.label == "positive" else slice(1, None)
        items = [i for row in rows for i in row["candidate_item_id"][pick]]
        assert share.candidates == len(items)
        assert share.unknown_items == sum(item > 500 for item in items)
        assert share.unknown_categories == sum(item // 10 > 60 for item in items)
        assert 0 < share.category_share < share.item_share < 1


def test_the_same_data_and_seed_give_the_same_results(
    results: BaselineResults, split_files: dict[str, list[str]]
) -> None:
    reversed_files = {split: files[::-1] for split, files in split_files.items()}
    assert compute(reversed_files, CATALOGUE, training_impressions=10_000, seed=5) == results


def test_the_regression_sees_no_more_impressions_than_allowed(split_files: dict[str, list[str]]) -> None:
    first, again, other = (compute(split_files, CATALOGUE, training_impressions=150, seed=seed) for seed in (5, 5, 6))
    assert first.fitted_impressions == 150
    assert first == again
    assert first.sets != other.sets


def test_a_catalogue_without_items_leaves_popularity_at_one_half(split_files: dict[str, list[str]]) -> None:
    nothing = np.empty(0, np.int64)
    result = compute(split_files, Catalogue(*[nothing] * 5), training_impressions=100, seed=5)
    assert result.sets["uniform"].auc["popularity"] == 0.5


def test_impressions_of_empty_histories_only_are_scored(tmp_path: Path, split_files: dict[str, list[str]]) -> None:
    empty = write(tmp_path / "eval.gz", [impression("uniform", [], [20, 30])] * 3)
    result = compute(split_files | {"eval": [empty]}, CATALOGUE, training_impressions=100, seed=5)
    assert result.sets["uniform"].auc["category_recency"] == 0.5
    assert result.sets["uniform"].auc["logistic_regression"] == 0.5


def test_a_set_of_one_class_has_no_auc(tmp_path: Path, split_files: dict[str, list[str]]) -> None:
    row = impression("uniform", [(20, 2, 1, 5)], [20, 30]) | {"label": [1, 1]}
    result = compute(
        split_files | {"eval": [write(tmp_path / "eval.gz", [row])]},
        CATALOGUE,
        training_impressions=100,
        seed=5,
    )
    assert set(result.sets["uniform"].auc.values()) == {None}
    assert set(result.sets["uniform"].auc_new.values()) == {None}
    assert result.sets["uniform"].pairs_new == 0


def test_a_train_split_that_cannot_be_fitted_is_named(tmp_path: Path, split_files: dict[str, list[str]]) -> None:
    none = write(tmp_path / "none.gz", [])
    with pytest.raises(ValueError, match="split train has no impressions"):
        compute(split_files | {"train": [none]}, CATALOGUE, training_impressions=100, seed=5)
    row = impression("mixed", [], [20, 30]) | {"label": [0, 0]}
    one_class = write(tmp_path / "one.gz", [row])
    with pytest.raises(ValueError, match="split train: all 2 labels are 0"):
        compute(split_files | {"train": [one_class]}, CATALOGUE, training_impressions=100, seed=5)


def test_labels_that_do_not_fit_the_candidates_are_named() -> None:
    features = {name: tf.ragged.constant([[20, 30]], tf.int64) for name in (CANDIDATE_ITEM_ID, CANDIDATE_ITEM_INDEX)}
    labels = tf.ragged.constant([[1]], tf.int64)
    with pytest.raises(ValueError, match="label: 1 values for 2 candidates, in row 0"):
        Impressions(features | {LABEL: labels}, [CANDIDATE_ITEM_INDEX])
    with pytest.raises(ValueError, match="candidate_item_index: 1 values for 2 candidates, in row 0"):
        Impressions(
            features | {LABEL: features[CANDIDATE_ITEM_ID], CANDIDATE_ITEM_INDEX: labels}, [CANDIDATE_ITEM_INDEX]
        )

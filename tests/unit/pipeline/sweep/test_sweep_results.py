from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from ctr.components.scoring.baselines import BaselineResults, SetResult
from ctr.components.tables import as_text
from ctr.models.impression import CONTEMPORANEOUS, UNIFORM
from ctr.pipeline.settings.pipeline_config import load_preset
from ctr.pipeline.sweep.plot import plot
from ctr.pipeline.sweep.render import SweepReport, layout, render_csv, render_markdown
from ctr.pipeline.sweep.results import Journal, SetMetrics, TrialResult, spread, summarize, trial_key
from ctr.pipeline.sweep.trials import Trial, Variant

DNN = Variant(model="dnn", activation="dice", match_features=True)
DIN = Variant(model="din", activation="dice", match_features=True)


def result(variant: Variant, seed: int, auc: float, shuffled: float = 0.5, **more: object) -> TrialResult:
    metrics = {
        name: SetMetrics(pairs=10, auc=auc, auc_new=auc - 0.1, gauc=auc, log_loss=0.5)
        for name in (CONTEMPORANEOUS, UNIFORM)
    }
    values = {"impressions_per_second": 1000.0 * seed, "parameters": 30, "embedding_parameters": 20, "p50_ms": 1.0}
    return TrialResult(
        key=f"{variant}{seed}",
        trial=Trial(variant=variant, seed=seed),
        sets=metrics,
        shuffled_auc=shuffled,
        **{**values, "export_bytes": 2_000_000, **more},
    )


def report(results: list[TrialResult]) -> SweepReport:
    auc = {"category_recency": 0.85, "logistic_regression": 0.86}
    seen = {"seen_positives": 2, "seen_negatives": 0, "pairs_new": 6}
    auc_new = {"category_recency": 0.75, "logistic_regression": 0.76}
    baseline = SetResult(impressions=5, pairs=10, positives=5, auc=auc, auc_new=auc_new, **seen)
    return SweepReport(
        protocol="Protocol: a test.",
        judged_set=CONTEMPORANEOUS,
        baselines=BaselineResults(
            sets={CONTEMPORANEOUS: baseline, UNIFORM: baseline},
            unknown=(),
            fitted_impressions=1,
            seed=1,
        ),
        variants=tuple(summarize(results, CONTEMPORANEOUS)),
        failures=tuple(r for r in results if r.failure),
    )


def test_mean_and_deviation_are_over_the_seeds_of_a_variant() -> None:
    dnn, din = summarize([result(DNN, 1, 0.8), result(DIN, 1, 0.9), result(DNN, 2, 0.82)], CONTEMPORANEOUS)
    assert dnn.auc[CONTEMPORANEOUS].mean == pytest.approx(0.81)
    assert dnn.auc[CONTEMPORANEOUS].deviation == pytest.approx(np.std([0.8, 0.82], ddof=1))
    assert dnn.impressions_per_second == spread([1000.0, 2000.0])
    assert din.auc[CONTEMPORANEOUS].deviation is None


def test_the_journal_keeps_what_was_written_and_drops_a_line_that_was_cut_off(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "sweep" / "trials.jsonl"))
    assert journal.read() == {}
    results = [result(DNN, 1, 0.8), result(DIN, 1, 0.9), result(DNN, 1, 0.7)]
    for each in results:
        journal.append(each)
    # The newest result of a key counts.
    assert journal.read() == {r.key: r for r in results[1:]}
    whole = Path(journal.path).read_text()
    Path(journal.path).write_text(whole[:-20])
    assert journal.read() == {r.key: r for r in results[:2]}


def test_a_line_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"nothing": 1}\n' + result(DNN, 1, 0.8).model_dump_json() + "\n")
    with pytest.raises(ValueError, match=r"trials\.jsonl, line 1"):
        Journal(str(path)).read()


def test_a_key_changes_with_what_the_result_depends_on_alone() -> None:
    config = load_preset("sample")
    trial = Trial(variant=DNN, seed=1)
    key = trial_key(trial, config, "examples/1", "code")
    assert key == trial_key(trial, config.with_overrides({"evaluation.bounds.auc.min": 0.5}), "examples/1", "code")
    others = [
        trial_key(trial, config, "examples/1", "edited"),
        trial_key(trial, config, "examples/2", "code"),
        trial_key(Trial(variant=DNN, seed=2), config, "examples/1", "code"),
        trial_key(Trial(variant=DIN, seed=1), config, "examples/1", "code"),
        trial_key(trial, config.with_overrides({"training.epochs": 1}), "examples/1", "code"),
        trial_key(trial, config.with_overrides({"model.embedding_dim": 8}), "examples/1", "code"),
        trial_key(trial, config.with_overrides({"sampler.stored": "contemporaneous"}), "examples/1", "code"),
        trial_key(Trial(variant=DNN.model_copy(update={"sampler": "in_batch"}), seed=1), config, "examples/1", "code"),
        trial_key(trial, config.with_overrides({"ingest.history_length": 10}), "examples/1", "code"),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_the_table_puts_baselines_first_and_marks_what_does_not_read_histories() -> None:
    dnn = [result(DNN, 1, 0.8), result(DNN, 2, 0.82)]
    text = render_markdown(report([*dnn, result(DIN, 1, 0.9, shuffled=0.895)]))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| *category recency* |")
    assert "| 0.8600 | 0.8600 | 0.7600 |" in table[3]
    assert "Seen before: 40.0% of the positives stand in the user's own history" in text
    assert table[4].startswith(
        "| dnn | dice | yes | random | pointwise | 0.8100 ± 0.0141 | 0.8100 ± 0.0141 | 0.7100 ± 0.0141 "
        "| 0.5000 ± 0.0000 |"
    )
    assert "1,500 | 30 | 10 | 2.0 | 1.0 |" in table[4]
    assert "0.8950 suspicious" in table[5]
    assert "**Suspicious**: din dice" in text
    # One seed has no deviation to measure by.
    assert "din dice, match features on: +0.0900 AUC against dnn." in text
    text = render_markdown(report([*dnn, result(DIN, 1, 0.9), result(DIN, 2, 0.91)]))
    assert "din dice, match features on: +0.0950 AUC against dnn, +6.7 deviations" in text


def compact(report: SweepReport, width: int) -> str:
    return as_text(layout(report, width), width)


def test_the_terminal_gets_the_best_first_among_the_baselines() -> None:
    results = [result(DNN, 1, 0.8), result(DNN, 2, 0.82), result(DIN, 1, 0.9, shuffled=0.895), result(DIN, 2, 0.91)]
    text = compact(report(results), 100)
    lines = [line.split() for line in text.splitlines()]
    first = next(index for index, line in enumerate(lines) if line[:1] == ["model"])
    assert lines[first + 1] == ["din", "0.9050", "0.0071", "0.8050", "0.9050", "0.6975", "0.5000", "1,500", "1.0"]
    assert lines[first + 2] == ["(logistic", "regression)", "0.8600", "0.7600"]
    assert lines[first + 3] == ["(category", "recency)", "0.8500", "0.7500"]
    assert lines[first + 4] == ["dnn", "0.8100", "0.0141", "0.7100", "0.8100", "0.5000", "0.5000", "1,500", "1.0"]
    # What all share is said once, and how it was measured.
    assert "All: activation dice, match features on, negatives random, loss pointwise." in text
    assert "AUC on contemporaneous negatives, best first; 2 seeds each" in text
    assert "Protocol: a test." in text
    assert "Seen before: 40.0% of the positives" in text
    assert "|" not in text


def test_a_name_in_the_terminal_says_in_what_a_variant_differs() -> None:
    mixed = DIN.model_copy(update={"sampler": "mixed", "alpha": 0.25, "match_features": False})
    text = compact(report([result(DIN, 1, 0.9, shuffled=0.899), result(mixed, 1, 0.92)]), 100)
    assert re.search(r"^  din, match, random +0.9000", text, flags=re.MULTILINE)
    assert re.search(r"^  din, no match, mixed 0.25 +0.9200", text, flags=re.MULTILINE)
    assert "Suspicious: din dice, match features on loses" in text
    failed = TrialResult(key="x", trial=Trial(variant=DNN, seed=3), failure="the training loss is nan")
    text = compact(report([failed]), 100)
    assert "Failed: dnn dice, match features on, seed 3: the training loss is nan" in text


@pytest.mark.parametrize(("width", "columns"), [(60, 5), (80, 8), (120, 9), (200, 9)])
def test_the_table_of_the_terminal_fits(width: int, columns: int) -> None:
    long = Variant(model="transformer4rec", activation="prelu", match_features=False, sampler="mixed", alpha=0.25)
    results = [result(v, seed, 0.8 + seed / 100) for v in (DNN, DIN, long) for seed in (1, 2)]
    text = compact(report(results), width)
    assert max(map(len, text.splitlines())) <= width
    row = next(line for line in text.splitlines() if line.startswith("  transformer4rec"))
    numbers = ["0.8150", "0.0071", "0.7150", "0.8150", "0.5000", "0.5000", "1,500", "1.0"]
    assert row.split()[-columns + 1 :] == numbers[: columns - 1]
    # Of the name nothing is lost.
    assert {"transformer4rec,", "prelu,", "no", "match,", "mixed", "0.25"} <= set(text.split())


def test_a_failed_trial_is_told_and_counts_for_no_mean() -> None:
    failed = TrialResult(key="x", trial=Trial(variant=DNN, seed=3), failure="the training loss is nan")
    text = render_markdown(report([result(DNN, 1, 0.8), failed]))
    assert "Failed: dnn dice, match features on, seed 3: the training loss is nan" in text
    assert "| dnn | dice | yes | random | pointwise | 0.8000 |" in text


def test_samplers_stand_beside_random_ones_of_the_same_model() -> None:
    mixed = DIN.model_copy(update={"sampler": "mixed", "alpha": 0.25})
    softmax = DIN.model_copy(update={"sampler": "in_batch", "loss": "sampled_softmax"})
    results = [result(DNN, 1, 0.7), result(DIN, 1, 0.9), result(mixed, 1, 0.92, uncalibrated_log_loss=0.7)]
    text = render_markdown(report([*results, result(softmax, 1, 0.8)]))
    assert "- din dice, match features on, mixed 0.25: +0.0200 AUC against random." in text
    assert "| din | dice | yes | mixed 0.25 | pointwise | 0.9200 |" in text
    assert "| 0.5000 | 0.7000 |" in text
    assert "| din | dice | yes | in-batch | sampled softmax | 0.8000 |" in text
    # Of another loss there is no random one to stand beside.
    assert "sampled softmax:" not in text
    assert "against dnn" not in text


def test_the_csv_has_a_line_a_trial() -> None:
    failed = TrialResult(key="x", trial=Trial(variant=DNN, seed=3), failure="nan, alas")
    rows = list(csv.DictReader(render_csv([result(DNN, 1, 0.8), failed]).splitlines()))
    assert rows[0]["auc_contemporaneous"] == "0.8"
    assert float(rows[0]["auc_new_uniform"]) == pytest.approx(0.7)
    assert rows[0]["failure"] == ""
    assert (rows[1]["auc_contemporaneous"], rows[1]["failure"]) == ("", "nan, alas")


def test_a_result_of_a_version_that_did_not_know_new_items_is_still_a_result() -> None:
    old = result(DNN, 1, 0.8)
    old = old.model_copy(update={"sets": {k: v.model_copy(update={"auc_new": None}) for k, v in old.sets.items()}})
    without = old.model_dump(mode="json")
    for metrics in without["sets"].values():
        del metrics["auc_new"]
    assert TrialResult.model_validate(without) == old
    assert "| 0.8000 | 0.8000 | - | 0.5000 |" in render_markdown(report([old]))


def test_the_plot_is_a_picture_that_shows_every_variant(tmp_path: Path) -> None:
    from matplotlib.image import imread

    prelu = DNN.model_copy(update={"activation": "prelu", "match_features": False})
    few = report([result(DNN, 1, 0.8)])
    many = report([result(DNN, 1, 0.8), result(prelu, 1, 0.7), result(DIN, 1, 0.9), result(DIN, 2, 0.91)])
    for name, each in (("few", few), ("many", many)):
        plot(each, str(tmp_path / f"{name}.png"))
    pictures = [imread(tmp_path / f"{name}.png") for name in ("few", "many")]
    assert pictures[1].shape[0] > pictures[0].shape[0]
    # The second activation has a colour of its own.
    orange = np.array([0xD5, 0x5E, 0x00]) / 255
    found = [(np.abs(picture[..., :3] - orange).max(axis=-1) < 0.02).any() for picture in pictures]
    assert found == [False, True]

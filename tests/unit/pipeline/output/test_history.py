"""The runs of a folder, from metadata and artifacts made by hand as a run leaves them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hand_made_store import State, Store, past_run

from ctr.components.locks import held
from ctr.pipeline.output.documents import comparison, entry, lineage
from ctr.pipeline.output.history import History
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.leftovers import lock_of
from ctr.pipeline.output.runs import NoSuchRun

FIRST, SECOND = "20260101-100000-000000-din", "20260102-100000-000000-dnn"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two runs of the same data: din, which was pushed, and dnn, which was not; a step failed in a third."""
    layout = Layout(str(tmp_path / "output"))
    store = Store(Path(layout.metadata_db))
    past_run(store, layout, FIRST, version=100, auc=0.89)
    past_run(store, layout, SECOND, cached=("ImpressionGen",), blessed=False, auc=0.88, changes=("model.name=dnn",))
    store.add(
        "20260103-100000-000000-din", "ImpressionGen", State.CACHED, f"{layout.artifacts}/ImpressionGen/examples/1"
    )
    store.add(
        "20260103-100000-000000-din", "Trainer", State.FAILED, properties={"settings": '{"model":{"name":"din"}}'}
    )
    return layout


def test_runs_are_listed_with_what_they_found(layout: Layout) -> None:
    runs = History(layout).runs()
    assert [run.run_id for run in runs] == [FIRST, SECOND, "20260103-100000-000000-din"]
    assert [run.verdict for run in runs] == ["blessed", "not blessed", "failed in Trainer"]
    first, second, third = map(entry, runs)
    assert (first["model"], first["preset"], first["version"]) == ("din", "demo", 100)
    assert first["auc"] == pytest.approx({"value": 0.89, "low": 0.88, "high": 0.91})
    assert first["judged_set"] == "contemporaneous"
    assert first["usage"]["Trainer"] == {"seconds": 29.5, "cpu_seconds": 51.25, "peak_memory": 2_000_000_000}
    assert first["cached"] == []
    assert (second["model"], second["version"], second["cached"]) == ("dnn", None, ["ImpressionGen"])
    assert (third["model"], third["preset"], third["auc"]) == ("din", None, None)
    assert [run.run_id for run in History(layout).runs(last=1)] == ["20260103-100000-000000-din"]


def test_two_runs_differ_in_what_was_changed(layout: Layout) -> None:
    history = History(layout)
    found = comparison(history.named(FIRST), history.named("20260102"))
    assert found["config"] == {"model.name": ["din", "dnn"]}
    assert found["data"] == {}
    assert found["code"] == {"Trainer": ["code of din", "code of dnn"]}
    assert found["packages"] == {}
    assert found["same_impressions"] is True
    both = found["metrics"]["AUC, contemporaneous"]
    assert (both["a"]["value"], both["b"]["value"]) == (0.89, 0.88)
    assert {"GAUC, contemporaneous", "AUC, uniform", "AUC on items new to the user, contemporaneous"} <= set(
        found["metrics"]
    )
    nothing = comparison(history.named(FIRST), history.named("20260103"))
    assert nothing["metrics"]["AUC, contemporaneous"]["b"] is None
    # What is not known is neither the same nor a difference.
    assert (nothing["config"], nothing["data"], nothing["packages"]) == (None, None, None)


def test_another_log_is_a_difference_and_makes_metrics_incomparable(layout: Layout) -> None:
    past_run(Store(Path(layout.metadata_db)), layout, "20260104-100000-000000-din", digest="7a" * 32, version=101)
    history = History(layout)
    found = comparison(history.of_version(100), history.of_version(101))
    assert found["data"] == {"content": [f"sha256:{'5f' * 32}", f"sha256:{'7a' * 32}"]}
    assert found["same_impressions"] is False
    assert found["config"] == {}


def test_a_version_leads_to_run_data_code_and_settings(layout: Layout) -> None:
    found = lineage(History(layout).of_version(100), 100, layout)
    assert json.loads(json.dumps(found)) == found
    assert found["run"]["run_id"] == FIRST
    assert found["data"]["digest"] == f"sha256:{'5f' * 32}"
    assert (found["data"]["span"], found["data"]["files"][0]["name"]) == (17_503, "log.csv")
    trainer = found["steps"]["Trainer"]
    assert trainer["code_sha256"] == "code of din"
    assert trainer["artifacts"]["model"]["uri"].startswith(f"{layout.artifacts}/Trainer/model/")
    assert (trainer["made_in"], trainer["made_by"]) == (FIRST, trainer["execution"])
    assert found["provenance"]["commit"] == "0123456789abcdef"
    assert found["provenance"]["packages"]["tensorflow"] == "2.16.2"
    assert found["config"]["model"]["name"] == "din"


def test_what_came_from_the_cache_leads_to_who_made_it(layout: Layout) -> None:
    step = History(layout).run(SECOND).steps["ImpressionGen"]
    assert step.cached
    assert step.made_in == FIRST
    assert step.made_by < step.execution
    # The process that took it from the cache ran none of its code.
    assert step.provenance is not None


def test_a_version_that_an_earlier_run_pushed_is_that_runs(layout: Layout) -> None:
    again = "20260105-100000-000000-din"
    past_run(
        Store(Path(layout.metadata_db)),
        layout,
        again,
        version=100,
        cached=("ImpressionGen", "Trainer", "Evaluator", "Pusher"),
    )
    history = History(layout)
    assert entry(history.run(again))["pushed_earlier"] is True
    assert entry(history.run(FIRST))["pushed_earlier"] is False
    assert history.of_version(100).run_id == FIRST


def test_a_folder_that_was_moved_is_read_where_it_is(layout: Layout, tmp_path: Path) -> None:
    moved = Layout(str(tmp_path / "moved"))
    before = [entry(run) for run in History(layout).runs()]
    (Path(layout.model_base("ctr")) / "100").mkdir(parents=True)
    os.rename(layout.output, moved.output)
    history = History(moved)
    assert [entry(run) for run in history.runs()] == before
    found = lineage(history.of_version(100), 100, moved)
    assert found["pushed_to"] == f"{moved.model_base('ctr')}/100"
    assert found["steps"]["Trainer"]["artifacts"]["model"]["uri"].startswith(moved.artifacts)


def test_what_was_removed_is_not_known(layout: Layout) -> None:
    for file in Path(layout.artifacts).rglob("*.json"):
        file.unlink()
    first, second = (History(layout).run(run_id) for run_id in (FIRST, SECOND))
    assert (entry(first)["auc"], first.verdict, first.version) == (None, "blessed", 100)
    assert lineage(first, 100, layout)["data"] is None
    assert comparison(first, second)["metrics"] == {}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nope", r"'nope' is no run and no pushed version; there are .*-din; there is 100"),
        ("2026", r"'2026' is the beginning of several runs: .*-din, .*-dnn"),
        ("7", r"'7' is no run"),
    ],
)
def test_what_there_is_is_said_where_a_name_is_wrong(name: str, says: str, layout: Layout) -> None:
    with pytest.raises(NoSuchRun, match=says):
        History(layout).named(name)


def test_what_there_is_is_said_where_a_version_is_wrong(layout: Layout) -> None:
    with pytest.raises(NoSuchRun, match=r"no run pushed version 7; there is 100$"):
        History(layout).of_version(7)
    other = "20260106-100000-000000-din"
    past_run(Store(Path(layout.metadata_db)), layout, other, version=100)
    with pytest.raises(NoSuchRun, match=rf"version 100 was pushed by several runs: {FIRST}, {other}"):
        History(layout).of_version(100)


def test_a_run_that_is_under_way_is_told_from_one_that_was_killed(layout: Layout) -> None:
    run_id = "20260107-100000-000000-din"
    store = Store(Path(layout.metadata_db))
    number = store.add(run_id, "Trainer", State.RUNNING)
    # Of a step on another machine nothing is known here.
    assert History(layout).run(run_id).verdict == "running Trainer"
    os.makedirs(layout.runs)
    with held(lock_of(layout, run_id)):
        assert History(layout).run(run_id).verdict == "running Trainer"
    assert History(layout).run(run_id).verdict == "killed in Trainer"
    assert os.path.exists(lock_of(layout, run_id)), "looking changes nothing"
    (execution,) = store.store.get_executions_by_id([number])
    execution.last_known_state = State.CANCELED
    store.store.put_executions([execution])
    assert History(layout).run(run_id).verdict == "stopped in Trainer"


def test_a_run_of_the_data_alone_has_no_verdict(layout: Layout) -> None:
    Store(Path(layout.metadata_db)).add("20260108-data", "ImpressionGen", State.CACHED, "/gone/1")
    run = History(layout).run("20260108-data")
    assert (run.verdict, entry(run)["model"]) == ("data alone", None)

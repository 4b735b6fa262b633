"""What an execution took stands in ML Metadata beside it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hand_made_store import State, Store

from ctr.components.provenance import gather
from ctr.components.usage import Usage
from ctr.pipeline.output import measured as module
from ctr.pipeline.output.layout import Layout
from ctr.pipeline.output.measured import measured, provenance_of, usage_of
from ctr.pipeline.settings.metadata import MetadataConfig


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path))


@pytest.fixture
def history(layout: Layout) -> Store:
    return Store(Path(layout.metadata_db))


def execution(history: Store, number: int) -> State:
    (found,) = history.store.get_executions_by_id([number])
    return found


def test_it_is_written_beside_what_was_known(history: Store, layout: Layout) -> None:
    other = history.add("one", "Evaluator", State.COMPLETE)
    with measured(MetadataConfig(), layout, "one", "Trainer"):
        number = history.add("one", "Trainer", State.COMPLETE, properties={"settings": "{}"})
    found = execution(history, number)
    usage = usage_of(found)
    assert 0 < usage.seconds < 5
    assert usage.cpu_seconds is not None
    assert usage.cpu_seconds < 5
    assert usage.peak_memory is not None
    assert usage.peak_memory > 10e6
    assert found.custom_properties["settings"].string_value == "{}"
    assert found.last_known_state == State.COMPLETE
    assert provenance_of(found) == gather()
    assert not execution(history, other).custom_properties


def test_what_failed_is_measured_and_what_was_cached_ran_nothing(history: Store, layout: Layout) -> None:
    def failing() -> int:
        with measured(MetadataConfig(), layout, "one", "Trainer"):
            number = history.add("one", "Trainer", State.FAILED)
            raise ZeroDivisionError(str(number))

    with pytest.raises(ZeroDivisionError) as error:
        failing()
    assert usage_of(execution(history, int(str(error.value)))).cpu_seconds is not None
    with measured(MetadataConfig(), layout, "two", "Trainer"):
        number = history.add("two", "Trainer", State.CACHED)
    assert usage_of(execution(history, number)).cpu_seconds is not None
    assert provenance_of(execution(history, number)) is None


def test_a_node_that_did_not_run_has_nothing_to_be_written_to(history: Store, layout: Layout) -> None:
    number = history.add("one", "Trainer", State.COMPLETE)
    with measured(MetadataConfig(), layout, "one", "Pusher"):
        pass
    assert usage_of(execution(history, number)).peak_memory is None


def test_a_run_does_not_fail_for_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(module, "_write", refuse)
    with caplog.at_level(logging.WARNING), measured(MetadataConfig(), layout, "one", "Trainer"):
        pass
    assert "What Trainer took could not be written" in caplog.text
    assert "the disk is full" in caplog.text


def test_of_executions_before_this_there_is_the_time_alone(history: Store) -> None:
    found = execution(history, history.add("one", "Trainer", State.COMPLETE))
    found.create_time_since_epoch, found.last_update_time_since_epoch = 1000, 3500
    assert usage_of(found) == Usage(seconds=2.5)

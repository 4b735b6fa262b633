"""The share of rows in quarantine has bounds, and the stop says what is probably wrong."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ctr.components.impression_gen.refusals import check_rows
from ctr.components.quarantine import Example
from ctr.components.settings import IngestConfig

CLICKS = {
    "unknown_behavior": [Example("log.csv", 7, "behavior", "1,2,3,click,1511544070")],
    "outside_window": [Example("log.csv", 9, "after window_end", "1,2,3,pv,1556668800")],
}


def refusal(rows: int, quarantined: dict[str, int], ingest: IngestConfig) -> str:
    with pytest.raises(ValueError, match="data: ") as refused:
        check_rows(rows, quarantined, CLICKS, ingest)
    return str(refused.value)


def test_the_public_file_and_the_real_excerpt_are_within_the_bound() -> None:
    check_rows(100_150_807, {"outside_window": 55_538, "negative_timestamp": 38, "duplicate": 49}, {}, IngestConfig())
    check_rows(73_899, {"outside_window": 30, "duplicate": 1}, {}, IngestConfig())


def test_the_stop_shows_the_commonest_reason_with_a_row_and_what_to_do() -> None:
    text = refusal(1000, {"unknown_behavior": 930, "outside_window": 20}, IngestConfig())
    assert text.splitlines() == [
        "data: 950 of 1,000 rows cannot be used (95.00%), more than ingest.max_quarantined_share allows (1.00%); "
        "expected lines user_id,item_id,category_id,behavior,timestamp from 2017-11-25 00:00:00 to 2017-12-03 23:59:59 "
        "(ingest.window_start, ingest.window_end, ingest.window_days)",
        "In quarantine: 930 unknown_behavior, 20 outside_window",
        "For example unknown_behavior (behavior), log.csv, line 7: 1,2,3,click,1511544070",
        "Probably the log has the kinds of event 'click'; write each as one of pv, cart, fav, buy, "
        "or leave its rows out.",
        "A log of another form is read by its description: 'inspect' writes one, --dataset FILE gives it.",
        "If the log is right as it is, set ingest.max_quarantined_share_by_reason.unknown_behavior above 0.9300.",
    ]


def test_the_bound_itself_is_allowed() -> None:
    check_rows(1000, {"unknown_behavior": 10}, CLICKS, IngestConfig())
    refusal(1000, {"unknown_behavior": 11}, IngestConfig())
    check_rows(1000, {"unknown_behavior": 999}, CLICKS, IngestConfig(max_quarantined_share=1))


def test_a_reason_can_have_a_bound_of_its_own() -> None:
    part = IngestConfig(max_quarantined_share_by_reason={"outside_window": 0.8})
    check_rows(1000, {"outside_window": 800, "unknown_behavior": 10}, CLICKS, part)
    assert "max_quarantined_share_by_reason.outside_window allows (80.00%)" in refusal(
        1000, {"outside_window": 801}, part
    )
    assert "ingest.max_quarantined_share allows" in refusal(1000, {"outside_window": 5, "unknown_behavior": 11}, part)
    strict = IngestConfig(max_quarantined_share_by_reason={"unknown_behavior": 0})
    assert "unknown_behavior allows (0.00%)" in refusal(1000, {"unknown_behavior": 1}, strict)


def test_nothing_left_is_refused_whatever_the_bounds() -> None:
    text = refusal(3, {"unknown_behavior": 3}, IngestConfig(max_quarantined_share=1))
    assert text.startswith("data: 3 of 3 rows cannot be used (100.00%); expected lines")
    assert "If the log is right" not in text
    assert "the log has no row" in refusal(0, {}, IngestConfig())


def test_a_reason_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="mud is no reason; there are wrong_field_count, unreadable_row"):
        IngestConfig(max_quarantined_share_by_reason={"mud": 0.5})

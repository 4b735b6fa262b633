"""What the summary of an ingest tells of which log."""

from __future__ import annotations

from ctr.components.examples.summary import key, summarise
from ctr.components.quarantine import BAD_VALUE, OF_SOME_LOGS, REASONS


def test_reasons_that_most_logs_cannot_have_are_told_where_there_are_such_rows() -> None:
    always = [reason for reason in REASONS if reason not in OF_SOME_LOGS]
    assert list(summarise([], {}, (0, 0)).quarantined) == always
    found = summarise([], {key("quarantined", BAD_VALUE): 2}, (0, 0)).quarantined
    assert found == {**dict.fromkeys(always, 0), BAD_VALUE: 2}

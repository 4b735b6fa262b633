from __future__ import annotations

import mutations
import pytest


def test_all_that_is_to_be_changed_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutations.main(["--list"]) == 0, capsys.readouterr().out


def test_all_that_is_gone_is_named() -> None:
    fact = mutations.Fact([], ["no_such_word"], edits=[(mutations.IMPRESSION, "no such line", "another")])
    assert mutations.changes("letters", fact) == (
        [],
        ["letters: models/impression.py: 'no such line'", "letters: 'no_such_word', anywhere"],
    )

from __future__ import annotations

import pytest

from ctr.pipeline.process.errors import reason


def test_an_error_is_named_with_its_type() -> None:
    assert reason(ValueError("no such column")) == "ValueError: no such column"
    assert reason(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_beams_note_is_removed() -> None:
    error = ValueError("history_age: out of bounds [while running 'Run[AnomalyGate]']")
    assert reason(error) == "ValueError: history_age: out of bounds"


def test_an_error_that_beam_wrapped_is_named_once() -> None:
    error = RuntimeError("tensorflow.errors_impl.NotFoundError: /x; No such file [while running 'Run[Trainer]']")
    assert reason(error) == "NotFoundError: /x; No such file"


def test_the_last_error_of_a_traceback_counts() -> None:
    text = """Traceback (most recent call last):
  File "a.py", line 1, in process
    raise KeyError("inner")
KeyError: 'inner'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2, in process
    raise SchemaAnomaly()
components.gate.AnomalyError: eval split
  history_age: values above 864000 [while running 'x/Run[AnomalyGate]']
"""
    assert reason(RuntimeError(text)) == ("AnomalyError: eval split\n  history_age: values above 864000")


def test_a_real_worker_error_of_beam_comes_out_clean() -> None:
    import apache_beam as beam

    from ctr.components.direct_beam import keep_beam_here

    keep_beam_here()

    def fail(value: int) -> int:
        raise ValueError(f"row {value} is bad")

    with pytest.raises(Exception, match="row 3") as failed, beam.Pipeline() as p:
        p | beam.Create([3]) | "Step" >> beam.Map(fail)
    assert reason(failed.value) == "ValueError: row 3 is bad"


def test_a_long_error_is_cut() -> None:
    lines = reason(ValueError("\n".join(str(i) for i in range(100)))).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... (80 more lines in the log)"

from __future__ import annotations

from ctr.pipeline.runners.kubeflow.parameters import defaults, with_parameters
from ctr.pipeline.settings.pipeline_config import load_preset


def test_a_run_has_a_window_of_its_own_whatever_was_compiled() -> None:
    compiled = load_preset("kubeflow", ["ingest.window_start=2024-05-01", "ingest.window_end=2024-06-01"])
    assert defaults(compiled)["window_start"] == "2024-05-01T00:00:00"
    given = {"data": "/data/{YYYY}-{MM}-{DD}.csv", "window_start": "auto", "window_end": "auto", "window_days": "14"}
    ingest = with_parameters(compiled, given).ingest
    assert (ingest.window_start, ingest.window_end, ingest.window_days) == (None, None, 14)
    assert defaults(with_parameters(compiled, given)).items() >= given.items()


def test_what_is_not_set_has_a_word() -> None:
    found = defaults(load_preset("kubeflow"))
    words = {"span": "latest", "window_start": "auto", "window_end": "auto", "window_days": "auto"}
    assert found.items() >= words.items()
    assert with_parameters(load_preset("kubeflow"), words) == load_preset("kubeflow")

from __future__ import annotations

import gc
import importlib
import sys

import pytest

from ctr.pipeline.process.imports import left_out

LEFT_OUT = ("google.cloud", "google.api_core", "apitools", "tfx.components")


@pytest.fixture(autouse=True)
def _nothing_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*LEFT_OUT, "apache_beam"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("settings", "beam", "missing"),
    [
        ("{}", False, LEFT_OUT),
        ("{}", True, (*LEFT_OUT, "apache_beam")),
        ('{"output": "gs://bucket/ctr"}', False, ("tfx.components",)),
        ('{"beam_pipeline_args": ["--runner=DataflowRunner"]}', True, ("tfx.components", "apache_beam")),
    ],
)
def test_what_has_no_use_is_not_to_be_found_in_the_block(settings: str, beam: bool, missing: tuple[str, ...]) -> None:
    with left_out(settings, beam=beam):
        for name in missing:
            with pytest.raises(ImportError):
                importlib.import_module(name)
        assert {name for name, module in sys.modules.items() if module is None} >= {*missing}
    assert not {name for name in missing if name in sys.modules}


def test_what_was_imported_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    here = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "apache_beam", here)
    with left_out("{}", beam=True):
        assert importlib.import_module("apache_beam") is here
    assert sys.modules["apache_beam"] is here


@pytest.mark.parametrize("before", [True, False])
def test_garbage_is_looked_for_afterwards_as_before(before: bool) -> None:
    found = gc.isenabled()
    (gc.enable if before else gc.disable)()
    try:
        with left_out("{}"):
            assert not gc.isenabled()
        assert gc.isenabled() is before
    finally:
        (gc.enable if found else gc.disable)()

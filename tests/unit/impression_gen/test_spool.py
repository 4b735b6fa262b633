from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.impression_gen.spool import NOTHING, Spool


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.binary(max_size=20), max_size=5), max_size=4))
def test_each_parcel_reads_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[bytes]]
) -> None:
    spool = Spool(str(tmp_path_factory.mktemp("spool")))
    parcels = []
    for parts in files:
        with spool.file("step") as write:
            parcels += [(write(part), part) for part in parts]
    for parcel, part in reversed(parcels):
        assert spool.read(parcel) == part
    assert spool.read(NOTHING) == b""


def test_names_tell_what_is_done(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "spool"))
    assert spool.done() == {}
    for rows, size in ((10, 300), (5, 120)):
        with spool.file("read", rows, size):
            pass
    with spool.file("merge") as write:
        write(b"1234")
    assert spool.done() == {"read": (2, 15, 420), "merge": (1,)}
    spool.remove()
    spool.remove()
    assert not (tmp_path / "spool").exists()


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    with spool.file("step") as write:
        write(b"12")
        parcel = write(b"345")
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"123")
    with pytest.raises(OSError, match=r"step-[0-9a-f]{32}: 1 bytes from 2 on, not 3; was the file cut\?"):
        spool.read(parcel)

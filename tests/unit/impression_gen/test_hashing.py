from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.impression_gen.hashing import hash_columns, id_hash, part_of, split_by, splitmix64


def test_splitmix64_gives_the_published_sequence() -> None:
    # The first outputs of SplitMix64 from seed 0: its state advances by the golden gamma.
    state = np.array([0, 0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A], dtype=np.uint64)
    assert [hex(v) for v in splitmix64(state)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


def test_hash_depends_on_each_column_and_its_place() -> None:
    ones, twos = np.array([1]), np.array([2])
    hashes = {
        int(hash_columns(seed, *columns)[0]) for seed in (0, 1) for columns in ((ones, twos), (twos, ones), (ones,))
    }
    assert len(hashes) == 6


@settings(deadline=None)
@given(st.integers(1, 10_000))
def test_parts_are_even_and_in_the_order_of_the_hashes(parts: int) -> None:
    hashes = np.sort(id_hash(np.arange(1, 100_001)))
    part = part_of(hashes, parts)
    assert (np.diff(part) >= 0).all()
    counts = np.bincount(part)
    assert len(counts) <= parts
    assert abs(counts - 100_000 / parts).max() < 6 * (100_000 / parts) ** 0.5 + 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=30))
def test_rows_of_a_part_keep_their_order(rows: list[tuple[int, int]]) -> None:
    found = split_by(np.array([part for part, _ in rows], np.int64), np.array([value for _, value in rows], np.int64))
    expected = {part: [value for other, value in rows if other == part] for part in sorted({p for p, _ in rows})}
    assert [(part, values.tolist()) for part, values in found] == list(expected.items())

from __future__ import annotations

import numpy as np

from components.impression_gen.hashing import hash_columns, partition_of, splitmix64


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


def test_partitions_are_even() -> None:
    share = np.bincount(partition_of(np.arange(1, 100_001), 8)) / 100_000
    assert np.abs(share - 1 / 8).max() < 0.005

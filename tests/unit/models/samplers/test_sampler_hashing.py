from __future__ import annotations

import numpy as np
import tensorflow as tf

from ctr.models.samplers.hashing import bucket, mix, pair_key

IDS = tf.range(1, 100_001, dtype=tf.int64)


def test_no_two_ids_share_a_hash_and_the_sign_is_random() -> None:
    hashes = mix(IDS).numpy()
    assert len(np.unique(hashes)) == len(hashes)
    assert 0.49 < (hashes < 0).mean() < 0.51


def test_buckets_are_even_and_those_of_two_seeds_independent() -> None:
    first, second = (bucket(IDS, 64, seed).numpy() for seed in (0, 1))
    for buckets in (first, second):
        counts = np.bincount(buckets, minlength=64)
        assert len(counts) == 64
        assert np.abs(counts / counts.mean() - 1).max() < 0.15
    together = np.bincount(first * 64 + second, minlength=64 * 64)
    # Poisson: variance equals mean.
    assert 0.85 < together.var() / together.mean() < 1.15


def test_pairs_have_keys_of_their_own() -> None:
    keys = pair_key(IDS[:300, None], IDS[None, :300]).numpy()
    assert len(np.unique(keys)) == 300 * 300

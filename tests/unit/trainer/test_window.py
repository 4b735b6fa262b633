from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from block_files import write_blocks

from ctr.components.trainer import window as window_module
from ctr.components.trainer.train import _window
from ctr.components.trainer.window import read_window
from ctr.models.impression import CANDIDATE_ITEM_ID, HISTORY_ITEM_ID, LABEL, USER_ID
from ctr.models.samplers.hashing import pair_key
from ctr.models.samplers.sampler_config import SamplerConfig

IMPRESSIONS = [
    (1, [], [10, 90]),
    (1, [10], [11, 91]),
    (1, [10, 11], [10, 92]),
    (2, [12], [11, 93]),
    (3, [], [13, 10]),
]
"""User, history, candidates with the positive first."""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / "a.gz"), str(tmp_path / "b.gz")]
    for path, impressions in zip(paths, (IMPRESSIONS[:2], IMPRESSIONS[2:]), strict=True):
        rows = ({USER_ID: [u], HISTORY_ITEM_ID: h, CANDIDATE_ITEM_ID: c, LABEL: [1, 0]} for u, h, c in impressions)
        write_blocks(path, rows, rows_of_a_block=2)
    return paths


@pytest.mark.parametrize("keys_at_once", [20_000_000, 2])
def test_positives_are_counted_and_the_users_items_known(
    files: list[str], keys_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "_KEYS_AT_ONCE", keys_at_once)
    window = read_window(files, catalogue_size=77)
    assert window.catalogue_size == 77
    assert dict(zip(window.item_ids.tolist(), window.item_counts.tolist(), strict=True)) == {10: 2, 11: 2, 13: 1}
    own = {(1, 10), (1, 11), (2, 12), (2, 11), (3, 13)}
    users, items = (tf.constant([pair[side] for pair in sorted(own)], tf.int64) for side in (0, 1))
    np.testing.assert_array_equal(window.own_keys, np.sort(pair_key(users, items).numpy()))


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "empty.gz")
    write_blocks(path, [])
    with pytest.raises(ValueError, match="no impressions"):
        read_window([path], 1)


def test_a_split_without_files_is_an_error() -> None:
    with pytest.raises(ValueError, match="train split has no files"):
        read_window([], 1)


def test_the_split_is_read_only_for_columns_of_the_batch() -> None:
    for config in (SamplerConfig(name="random"), SamplerConfig(name="mixed", alpha=1)):
        window = _window(config, ["no such file"], 77)
        assert window.catalogue_size == 77
        assert not window.own_keys.size
    with pytest.raises(tf.errors.NotFoundError, match="no such file"):
        _window(SamplerConfig(name="mixed", alpha=0.5), ["no such file"], 77)

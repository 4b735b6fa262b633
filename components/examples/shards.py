"""Where the shards of a split lie. An artifact's address is a name, never a pattern."""

from __future__ import annotations

import os


def shard_path(examples_uri: str, split: str, shard: int, shards: int) -> str:
    """Where a split's shard lies, named as TFX's own writers name it."""
    return os.path.join(split_folder(examples_uri, split), f"data_tfrecord-{shard:05d}-of-{shards:05d}.gz")


def split_folder(examples_uri: str, split: str) -> str:
    """Where a split's shards lie."""
    return os.path.join(examples_uri, f"Split-{split}")


def unfinished_folder(examples_uri: str) -> str:
    """Where its steps keep what is not for readers: beside the splits' folders, whose readers take every file there."""
    return os.path.join(examples_uri, ".incoming")


def list_shards(folder: str) -> list[str]:
    """The shards in a split's folder, sorted; none where there is no folder."""
    # Where a split lies is known without it.
    import tensorflow as tf

    if not tf.io.gfile.isdir(folder):
        return []
    return [os.path.join(folder, name) for name in sorted(tf.io.gfile.listdir(folder)) if not name.startswith(".")]

"""Writes impressions as serialized ``tf.train.Example``."""

from __future__ import annotations

from ctr.components.examples.writing import encoded, joined, new_shard
from ctr.components.impression_gen.impressions import ImpressionBatch, Impressions


def write_shard(impressions: Impressions, path: str, temporary_folder: str) -> int:
    """Writes one shard; returns the number of its impressions."""
    with new_shard(path, temporary_folder) as writer:
        for batch in impressions.batches():
            for example in encode(batch):
                writer.write(example)
    return len(impressions.positive)


def encode(batch: ImpressionBatch) -> list[bytes]:
    """The impressions [n] as serialized Examples; what several of them share is encoded once."""
    contexts, kinds = joined(encoded(batch.contexts)), joined(encoded(batch.kinds))
    shared = [[contexts[i] for i in batch.context.tolist()], [kinds[i] for i in batch.kind.tolist()]]
    return joined([*shared, *encoded(batch.candidates)])

"""What it costs to give the Trainer its batches: impressions/s from files to dense tensors, and CPU time of each.

The same impressions, users' histories of up to 50 events of a vocabulary of two million items, are written in blocks,
as Transform does, and as a gzipped tf.Example each, as it did before; the reader of those is kept here. Each reads all
files, shuffled, into batches, in turn with the others, round after round; the median counts. ``in random order`` is in
blocks, too, but no impression has anything in common with the one before it. ``bytes alone`` reads the files of blocks
and does nothing: the floor.

    .venv/bin/python -m benchmarks.training_input

It imports nothing of TFX.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ctr.components.examples import blocks
from ctr.components.examples.impressions import parse
from ctr.components.trainer.input_pipeline import read_batches, to_model_inputs
from ctr.models import impression as names

LENGTH, CATEGORIES, FILES = 50, 10_000, 16
TF_EXAMPLES, BLOCKS, RANDOM, BYTES = "tf.Examples", "blocks", "in random order", "bytes alone"


class Rate(NamedTuple):
    """Of a pass over all files."""

    seconds: float
    """An impression."""
    cpu_seconds: float
    """Likewise, of all cores."""


def impressions(count: int, events: int, items: int, negatives: int) -> blocks.Features:
    """Of users with so many events each: an impression for each event, ordered by user and time."""
    rng = np.random.default_rng(0)
    users = -(-count // events)
    item = np.minimum(items ** rng.random((users, events)), items).astype(np.int64)
    behavior = rng.integers(1, 5, item.shape)
    time_of = 1_511_500_000 + np.sort(rng.integers(0, 700_000, item.shape), axis=1) + np.arange(events)
    user, last = (each.ravel()[:count] for each in np.indices(item.shape))
    lengths = np.minimum(last, LENGTH)
    start = user * events + last - lengths
    picked = np.repeat(start - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    now = time_of.ravel()[:count]
    candidates = np.concatenate([item.ravel()[:count, None], rng.integers(1, items + 1, (count, negatives))], axis=1)
    one, shown = np.ones(count, np.int64), np.full(count, 1 + negatives)
    label = np.zeros_like(candidates)
    label[:, 0] = 1
    features = {
        names.USER_ID: (one, 1 + user),
        names.TIMESTAMP: (one, now),
        names.NEGATIVE_SET: (one, np.full(count, names.MIXED.encode())),
        names.TARGET_BEHAVIOR: (one, behavior.ravel()[:count]),
        names.HISTORY_ITEM_ID: (lengths, item.ravel()[picked]),
        names.HISTORY_CATEGORY_ID: (lengths, item.ravel()[picked] % CATEGORIES + 1),
        names.HISTORY_BEHAVIOR: (lengths, behavior.ravel()[picked]),
        names.HISTORY_AGE: (lengths, np.repeat(now, lengths) - time_of.ravel()[picked]),
        names.CANDIDATE_ITEM_ID: (shown, candidates.ravel()),
        names.CANDIDATE_CATEGORY_ID: (shown, candidates.ravel() % CATEGORIES + 1),
        names.LABEL: (shown, label.ravel()),
    }
    return features | {index: (features[id_][0], features[id_][1] + 1) for id_, index in names.INDEX_OF.items()}


def rows_of(features: blocks.Features, rows: np.ndarray) -> blocks.Features:
    """Some of them."""
    picked = {}
    for name, (lengths, values) in features.items():
        starts, kept = np.cumsum(lengths) - lengths, lengths[rows]
        at = np.repeat(starts[rows] - np.cumsum(kept) + kept, kept) + np.arange(kept.sum())
        picked[name] = (kept, values[at])
    return picked


def serialized(features: blocks.Features) -> Iterator[bytes]:
    """As tf.Examples."""
    ends = {name: np.cumsum(lengths) for name, (lengths, _) in features.items()}
    for row in range(len(features[names.USER_ID][0])):
        example = tf.train.Example()
        for name, (lengths, values) in features.items():
            value = values[ends[name][row] - lengths[row] : ends[name][row]].tolist()
            feature = example.features.feature[name]
            (feature.bytes_list if name == names.NEGATIVE_SET else feature.int64_list).value.extend(value)
        yield example.SerializeToString()


def write(features: blocks.Features, folder: str, encode: Callable[..., Iterable[bytes]], options: str) -> list[str]:
    """Writes :data:`FILES` files."""
    os.mkdir(folder)
    paths = [os.path.join(folder, f"{number:02d}") for number in range(FILES)]
    for path, rows in zip(paths, np.array_split(np.arange(len(features[names.USER_ID][0])), FILES), strict=True):
        with tf.io.TFRecordWriter(path, options) as writer:
            for record in encode(rows_of(features, rows)):
                writer.write(record)
    return paths


def of_examples(files: Sequence[str], batch_size: int, shuffle_buffer: int) -> tf.data.Dataset:
    """Transformed impressions as the Trainer read them while they were tf.Examples."""
    records = (
        tf.data.Dataset.from_tensor_slices(files)
        .shuffle(len(files), seed=1)
        .interleave(
            lambda name: tf.data.TFRecordDataset(name, "GZIP"),
            cycle_length=8,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    )

    def model_inputs(batch: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        features = parse(batch, (*names.MODEL_INPUTS, names.LABEL, names.USER_ID))
        labels = tf.cast(features[names.LABEL].to_tensor(), tf.float32)
        inputs = to_model_inputs(features, LENGTH)
        return inputs | {names.USER_ID: features[names.USER_ID]}, labels

    batches = records.shuffle(shuffle_buffer, seed=1).batch(batch_size)
    return batches.map(model_inputs, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def pass_over(batches: tf.data.Dataset, count: int) -> Rate:
    """Takes all batches there are; what it takes until the first one counts, too."""
    seconds, cpu = time.perf_counter(), time.process_time()
    for _ in batches:
        pass
    return Rate((time.perf_counter() - seconds) / count, (time.process_time() - cpu) / count)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=100_000, help="that are written; default: %(default)s")
    parser.add_argument("--events", type=int, default=100, help="of a user; default: %(default)s")
    parser.add_argument("--items", type=int, default=2_000_000, help="of the vocabulary; default: %(default)s")
    parser.add_argument("--negatives", type=int, default=1, help="of an impression; default: %(default)s")
    parser.add_argument("--batch", type=int, default=4096, help="impressions; default: %(default)s")
    parser.add_argument("--shuffle-buffer", type=int, default=100_000, help="impressions; default: %(default)s")
    parser.add_argument("--repeat", type=int, default=20, help="how often a pass reads all files; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    options = parser.parse_args(arguments)
    count, given = options.impressions, (options.batch, options.shuffle_buffer)
    features = impressions(count, options.events, options.items, options.negatives)
    mixed = rows_of(features, np.random.default_rng(1).permutation(count))
    with tempfile.TemporaryDirectory() as folder:
        files = {
            TF_EXAMPLES: write(features, f"{folder}/examples", serialized, "GZIP"),
            BLOCKS: write(features, f"{folder}/blocks", blocks.encode, ""),
            RANDOM: write(mixed, f"{folder}/mixed", blocks.encode, ""),
        }
        files[BYTES] = files[BLOCKS]

        def once(what: str, repeat: int) -> Rate:
            several = files[what] * repeat
            if what == TF_EXAMPLES:
                batches = of_examples(several, *given)
            elif what == BYTES:
                batches = tf.data.Dataset.from_tensor_slices(several).map(tf.io.read_file).map(tf.strings.length)
            else:
                batches = read_batches(
                    several,
                    batch_size=options.batch,
                    history_length=LENGTH,
                    shuffle_buffer=options.shuffle_buffer,
                    candidates=1 + options.negatives,
                )
            # The slow one does not need as many for the same time.
            return pass_over(batches, count * repeat)

        rates: dict[str, list[Rate]] = {what: [] for what in files}
        for _ in range(options.rounds):
            for what, measured in rates.items():
                measured.append(once(what, max(1, options.repeat // 10) if what == TF_EXAMPLES else options.repeat))
        sizes = {what: sum(map(os.path.getsize, several)) / count for what, several in files.items()}
    print(
        f"TensorFlow {tf.__version__}; {os.cpu_count()} cores; {count:,} impressions, {options.events} of a user; "
        f"batches of {options.batch}, shuffle buffer {options.shuffle_buffer:,}; peak memory "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB\n"
    )
    print(f"| | bytes an impression | impressions/s | relative to {TF_EXAMPLES} | CPU µs an impression | likewise |")
    print("| --- | --- | --- | --- | --- | --- |")
    first = [np.median(each) for each in zip(*rates[TF_EXAMPLES], strict=True)]
    for what, measured in rates.items():
        seconds, cpu = (np.median(each) for each in zip(*measured, strict=True))
        print(
            f"| {what} | {sizes[what]:.0f} | {1 / seconds:,.0f} | {first[0] / seconds:.2f} | {cpu * 1e6:.2f} | "
            f"{first[1] / max(cpu, 1e-9):.2f} |"
        )


if __name__ == "__main__":
    main()

"""What compression of the impressions costs: bytes, microseconds to write one and to read one, by gzip level.

    .venv/bin/python -m benchmarks.compression output/artifacts/ImpressionGen/examples/1

Every level writes and reads the same impressions, a shard a file, in one thread; CPU time, the best of three.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

LEVELS = (None, 1, 2, 4, 6, 9)
MOST = 100_000
"""Impressions that are looked at."""


def main(folder: str) -> None:
    """Prints the table.

    Raises:
      SystemExit: if the folder holds no impressions.
    """
    files = sorted(map(str, Path(folder).glob("Split-*/*")))
    if not files:
        raise SystemExit(f"error: no impressions in {folder}/Split-*/; name the examples of an ImpressionGen")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    shards: list[list[bytes]] = []
    for path in files:
        shards.append(list(tf.data.TFRecordDataset(path, compression_type="GZIP").as_numpy_iterator()))
        if sum(map(len, shards)) > MOST:
            break
    count = sum(map(len, shards))
    sizes: list[int] = []
    print(f"{count:,} impressions in {len(shards)} files\n")
    print("| gzip level | bytes an impression | of those without | µs to write one | µs to read one |")
    print("| --- | --- | --- | --- | --- |")
    for level in LEVELS:
        kind = "" if level is None else "GZIP"
        options = tf.io.TFRecordOptions(compression_type=kind, compression_level=level)
        writing, reading = [], []
        with tempfile.TemporaryDirectory() as out:
            written = [f"{out}/{number:05d}" for number in range(len(shards))]
            for _ in range(3):
                start = time.process_time()
                for file, shard in zip(written, shards, strict=True):
                    with tf.io.TFRecordWriter(file, options) as writer:
                        for record in shard:
                            writer.write(record)
                writing.append(time.process_time() - start)
                start = time.process_time()
                for _ in tf.data.TFRecordDataset(written, compression_type=kind).batch(4096):
                    pass
                reading.append(time.process_time() - start)
            sizes.append(sum(Path(file).stat().st_size for file in written))
        name = "none" if level is None else level
        times = [f"{min(each) / count * 1e6:.1f}" for each in (writing, reading)]
        print(f"| {name} | {sizes[-1] / count:.0f} | {sizes[-1] / sizes[0]:.2f} | {' | '.join(times)} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])

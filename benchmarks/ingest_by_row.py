"""The ingest as a Beam tutorial would write it: a Python tuple a row, a ``tf.train.Example`` built feature by feature.

As many impressions of the same shape as the real one makes, without its checks, and with negatives drawn anyhow. A peer
of benchmarks/ingest.py, which runs it as its work "row at a time".
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from ctr.components.direct_beam import keep_beam_here
from ctr.components.settings import IngestConfig
from ctr.models import impression as names
from ctr.models.impression import BEHAVIORS, EVAL_SPLIT, MIXED, SPLITS

Event = tuple[int, int, int, int]
"""time, item, category, behaviour"""


def row_at_a_time(log: str, out: str, ingest: IngestConfig) -> float:
    """Seconds that it took."""
    start = time.perf_counter()
    # The real ingest finds the boundaries and the catalogue by itself; here they are given.
    window = ingest.window
    bounds = [window[0] + int(share * (window[1] - window[0])) for share in (0.7, 0.8)]
    flags = ["--direct_running_mode=in_memory", "--direct_num_workers=1"]
    keep_beam_here()
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        impressions = (
            pipeline
            | beam.io.ReadFromText(log)
            | beam.Map(_parse)
            | beam.Filter(lambda row: window[0] <= row[1][0] <= window[1])
            | beam.GroupByKey()
            | beam.ParDo(_Impressions(bounds, ingest)).with_outputs(*SPLITS)
        )
        for split in SPLITS:
            prefix = os.path.join(out, split, "data")
            _ = impressions[split] | f"Write {split}" >> beam.io.WriteToTFRecord(prefix, file_name_suffix=".gz")
    return time.perf_counter() - start


def _parse(line: str) -> tuple[int, Event]:
    user, item, category, behavior, second = line.split(",")
    return int(user), (int(second), int(item), int(category), BEHAVIORS[behavior])


class _Impressions(beam.DoFn):
    def __init__(self, bounds: list[int], ingest: IngestConfig) -> None:
        self._bounds = bounds
        self._ingest = ingest

    def process(self, element: tuple[int, Iterable[Event]]) -> Iterator[beam.pvalue.TaggedOutput]:
        user, grouped = element
        events = sorted(set(grouped))
        own = {event[1] for event in events}
        draw = random.Random(user)  # noqa: S311
        for number, split in enumerate(SPLITS):
            places = [i for i, event in enumerate(events) if np.searchsorted(self._bounds, event[0], "right") == number]
            sets = self._ingest.evaluation_sets if split == EVAL_SPLIT else (MIXED,)
            for place in places[-(self._ingest.targets_per_user or 0) :]:
                history = [e for e in events[:place] if e[0] < events[place][0]][-self._ingest.history_length :]
                for kind in sets if history else ():
                    negative = draw.randint(1, 5_000_000)
                    while negative in own:
                        negative = draw.randint(1, 5_000_000)
                    shown = [events[place][1:3], (negative, 1 + negative % 9000)]
                    yield beam.pvalue.TaggedOutput(split, _example(user, events[place], kind, history, shown))


def _example(user: int, target: Event, kind: str, history: list[Event], shown: list[tuple[int, int]]) -> bytes:
    second = target[0]
    lists = {
        names.USER_ID: [user],
        names.TIMESTAMP: [second],
        names.TARGET_BEHAVIOR: [target[3]],
        names.HISTORY_ITEM_ID: [event[1] for event in history],
        names.HISTORY_CATEGORY_ID: [event[2] for event in history],
        names.HISTORY_BEHAVIOR: [event[3] for event in history],
        names.HISTORY_AGE: [second - event[0] for event in history],
        names.CANDIDATE_ITEM_ID: [item for item, _ in shown],
        names.CANDIDATE_CATEGORY_ID: [category for _, category in shown],
        names.LABEL: [1, 0],
    }
    features = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=values)) for name, values in lists.items()}
    features[names.NEGATIVE_SET] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[kind.encode()]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


if __name__ == "__main__":
    raise SystemExit(
        'run it as a work of the ingest\'s: .venv/bin/python -m benchmarks.ingest --only "ingest,row at a time"'
    )

"""How often an item is a positive: counted, or estimated from the stream of batches."""

from __future__ import annotations

import abc
from typing import Any, Final

import tensorflow as tf

from ctr.models.impression import PADDING_ID
from ctr.models.samplers.base import TrainingWindow
from ctr.models.samplers.hashing import bucket
from ctr.models.samplers.lookup import find
from ctr.models.samplers.registry import CorrectionConfig, FrequencyConfig, SamplerContext

_LARGEST_PROBABILITY: Final = 1.0 - 1e-4


class Frequencies(tf.Module, abc.ABC):
    """An item's share among the positives of training."""

    @abc.abstractmethod
    def observe(self, positives: tf.Tensor, step: tf.Tensor) -> None:
        """Sees the positives of a step; once a step, before any share is asked for.

        Args:
          positives: [G] int64 item ids of the global batch, the same on every replica; padding is 0.
          step: its number, counted from 1.
        """

    @abc.abstractmethod
    def share(self, items: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """q of each item.

        Args:
          items: int64 item ids, any shape.
          step: the current one, counted from 1.

        Returns:
          float32 of the same shape.
        """


class ExactFrequencies(Frequencies):
    """Counted over the training split before training."""

    def __init__(self, window: TrainingWindow) -> None:
        super().__init__()
        # A checkpoint need not hold what is counted anew from the same data, so these stand behind a plain object.
        self._table = _Table(window)

    def observe(self, positives: tf.Tensor, step: tf.Tensor) -> None:
        """Nothing is left to see: the counts are known."""
        del positives, step

    def share(self, items: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """See the base class; 0 for an item that is no positive."""
        place, known = find(tf.convert_to_tensor(self._table.ids), items)
        return tf.where(known, tf.gather(self._table.shares, place), 0.0)


class _Table:
    def __init__(self, window: TrainingWindow) -> None:
        self.ids = tf.Variable(window.item_ids, trainable=False, name="item_ids")
        shares = window.item_counts / max(window.item_counts.sum(), 1)
        self.shares = tf.Variable(shares, dtype=tf.float32, trainable=False, name="item_shares")


class StreamingFrequencies(Frequencies):
    """Estimated from the gaps between the steps at which an item is seen (Yi et al., RecSys 2019, algorithm 2).

    For each bucket: A, the last step that saw one of its items, and B, the moving average of the gaps. A step t that
    sees a bucket sets B to (1 - w) B + w (t - A) and A to t, w the rate; then p = 1 / B is the probability that a
    *batch* holds the item. With several hashes the largest B counts. At least one of b positives is the item with
    probability p = 1 - (1 - q)^b, so its share among the positives is q = 1 - (1 - p)^(1/b), about p / b for all but
    the most popular items.

    - A step sees the **global** batch: every replica counts the positives of all of them, so all hold the same arrays.
      A bucket counts once a step, however often the batch holds its items. Padding is never counted. A step is a step,
      also where the last batch is not full.
    - Until a bucket has been seen 1 / rate times, w is 1 / n at the nth time: B is the plain mean of its gaps, the
      first of them counted from the start. The paper's fixed w would leave rare items with the weight of their first
      gap for most of a training.
    - What has not been seen at step t has p = 1 / t, as if it came now.
    - Where p nears 1, q cannot be told: it is at most 1 - 0.0001^(1/b), as of an item that one batch in 10,000 lacks.

    The arrays are variables of a checkpoint; the model does not hold them, so they are absent from the export.

    Args:
      config: sizes and rate.
      batch_size: b, impressions of a full step over all replicas.
    """

    def __init__(self, config: FrequencyConfig, batch_size: int) -> None:
        super().__init__()
        self._config = config
        self._batch_size = batch_size
        size = [config.hashes * config.buckets]
        alike: dict[str, Any] = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.last_step = tf.Variable(tf.zeros(size, tf.int64), name="last_step", **alike)
        """The paper's A, all hashes one after another; 0 is never."""
        self.gap = tf.Variable(tf.zeros(size), name="gap", **alike)
        """The paper's B, in steps."""
        self.seen = tf.Variable(tf.zeros(size), name="seen", **alike)
        """n, up to 1 / rate."""

    def observe(self, positives: tf.Tensor, step: tf.Tensor) -> None:
        """See the class docstring."""
        real = positives != PADDING_ID
        # Padding stands for the first real one once more: a bucket counts once a step.
        first = tf.gather(positives, tf.argmax(real))
        places = tf.reshape(self._places(tf.where(real, positives, first)), [-1])
        last, before, times = (tf.gather(array, places) for array in (self.last_step, self.gap, self.seen))
        seen = tf.minimum(times + 1.0, 1.0 / self._config.rate)
        gap = before + (tf.cast(step - last, tf.float32) - before) / seen
        any_real = tf.reduce_any(real)
        # A place that occurs twice is computed twice from the same values: it is written the same twice.
        values = (tf.where(any_real, gap, before), tf.where(any_real, seen, times), tf.where(any_real, step, last))
        tf.distribute.get_replica_context().merge_call(self._write, args=(places, values))

    def share(self, items: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        present = tf.minimum(self.batch_probability(items, step), _LARGEST_PROBABILITY)
        return -tf.math.expm1(tf.math.log1p(-present) / self._batch_size)

    def batch_probability(self, items: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """p: the probability that a batch holds the item; arguments and result as of :meth:`share`."""
        places = self._places(tf.reshape(items, [-1]))
        never = tf.cast(tf.maximum(step, 1), tf.float32)
        gaps = tf.where(tf.gather(self.last_step, places) == 0, never, tf.gather(self.gap, places))
        return tf.reshape(1.0 / tf.maximum(tf.reduce_max(gaps, axis=0), 1.0), tf.shape(items))

    def _places(self, items: tf.Tensor) -> tf.Tensor:
        buckets = self._config.buckets
        return tf.stack([bucket(items, buckets, seed) + seed * buckets for seed in range(self._config.hashes)])

    def _write(self, strategy: tf.distribute.Strategy, places: tf.Tensor, values: tuple[tf.Tensor, ...]) -> None:
        for variable, new in zip((self.gap, self.seen, self.last_step), values, strict=True):
            strategy.extended.update(
                variable, lambda local, p, v: local.scatter_update(tf.IndexedSlices(v, p)), args=(places, new)
            )


def streaming_frequencies(context: SamplerContext) -> StreamingFrequencies:
    """With the settings of section ``frequency``."""
    return StreamingFrequencies(context.config.section(FrequencyConfig), context.batch_size)


def configured_frequencies(context: SamplerContext) -> Frequencies:
    """Those that setting ``sampler.frequencies`` names."""
    if context.config.section(CorrectionConfig).frequencies == "exact":
        return ExactFrequencies(context.window)
    return streaming_frequencies(context)

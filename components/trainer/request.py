"""A request as the served graph takes it: what is refused, and which positions are padding.

All of it is TensorFlow operations: a server runs the graph and nothing else of this project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from ctr.models.impression import (
    CANDIDATE_FEATURES,
    CANDIDATE_ITEM_ID,
    FEATURES,
    HISTORY_FEATURES,
    HISTORY_ITEM_ID,
    PADDING_ID,
    REQUEST_FEATURES,
)


def checked_request(request: Mapping[str, tf.Tensor]) -> dict[str, tf.RaggedTensor]:
    """Refuses what no impression can hold, and takes the padding out of histories.

    A position whose item id is 0 is padding, wherever it stands, and every other feature has to be 0 there. The events
    of a history close up, in their order. Candidates keep their positions, so that each score stands where its
    candidate stood.

    Args:
      request: the features of ``REQUEST_FEATURES``, [B, T] int64 histories and [B, N] int64 candidates.

    Returns:
      The same features: histories [B, ?] without padding, candidates [B, N] with it.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs, if shapes do not fit one another, or a value is outside
        its range. The message names the feature, the place, what was found and what is allowed.
    """
    with tf.control_dependencies([_require_one_shape(request)]):
        history = tf.stack([request[name] for name in HISTORY_FEATURES], axis=-1)
        candidates = tf.stack([request[name] for name in CANDIDATE_FEATURES], axis=-1)
    checks = [_require_values(history, HISTORY_FEATURES), _require_values(candidates, CANDIDATE_FEATURES)]
    with tf.control_dependencies(checks):
        is_event = history[..., 0] != PADDING_ID
        lengths = tf.math.count_nonzero(is_event, axis=1)
        events = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(history, is_event), lengths, validate=False)
        slots = tf.RaggedTensor.from_tensor(candidates)
    features = {name: events.with_values(events.values[:, i]) for i, name in enumerate(HISTORY_FEATURES)}
    return features | {name: slots.with_values(slots.values[:, i]) for i, name in enumerate(CANDIDATE_FEATURES)}


def _require_one_shape(request: Mapping[str, tf.Tensor]) -> tf.Tensor:
    leaders = [HISTORY_ITEM_ID if name in HISTORY_FEATURES else CANDIDATE_ITEM_ID for name in REQUEST_FEATURES]
    shapes = tf.stack([tf.shape(request[name]) for name in REQUEST_FEATURES])
    columns = tf.gather(shapes[:, 1], [REQUEST_FEATURES.index(leader) for leader in leaders])
    expected = tf.stack([tf.fill(tf.shape(columns), shapes[0, 0]), columns], axis=1)
    fits = tf.reduce_all(shapes == expected, axis=1)

    def message() -> tf.Tensor:
        first = tf.argmax(~fits)
        return tf.strings.join(
            [
                tf.gather(REQUEST_FEATURES, first),
                tf.strings.format(" has the shape {}, expected {}: as many rows as ", (shapes[first], expected[first])),
                f"{HISTORY_ITEM_ID} and as many columns as ",
                tf.gather(leaders, first),
            ]
        )

    return _require(tf.reduce_all(fits), message)


def _require_values(values: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
    """Holds [B, T, features] int64, the item's id first, to the ranges of ``names``."""
    features = [FEATURES[name] for name in names]
    padding = values[..., :1] == PADDING_ID
    within = (values >= [f.smallest for f in features]) & (values <= [f.largest for f in features])
    allowed = tf.where(padding, values == PADDING_ID, within)

    def message() -> tf.Tensor:
        place = tf.where(~allowed)[0]
        return tf.strings.join(
            [
                tf.gather(names, place[2]),
                tf.strings.format(" at row {}, position {} is ", (place[0], place[1])),
                tf.as_string(tf.gather_nd(values, place)),
                ", expected ",
                tf.where(
                    padding[place[0], place[1], 0],
                    f"{PADDING_ID}, because {names[0]} is {PADDING_ID} there, which makes it padding",
                    tf.gather([f.range for f in features], place[2]),
                ),
            ]
        )

    return _require(tf.reduce_all(allowed), message)


def _require(condition: tf.Tensor, message: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Fails with INVALID_ARGUMENT when the graph runs and ``condition`` [] bool does not hold."""

    def refuse() -> tf.Tensor:
        # tf.debugging.Assert would put its words together in every request that it lets through.
        with tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=[message()])]):
            return tf.identity(condition)

    return tf.cond(condition, lambda: condition, refuse, name="request")

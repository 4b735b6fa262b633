"""A request as the served graph takes it: what is refused, and which positions are padding.

All of it is TensorFlow operations: a server runs the graph and nothing else of this project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from ctr.components.examples.impressions import dtype_of
from ctr.models.impression import (
    CANDIDATE_FEATURES,
    CANDIDATE_ITEM_ID,
    CONTEXT_FEATURES,
    FEATURES,
    HISTORY_FEATURES,
    HISTORY_ITEM_ID,
    PADDING_ID,
    REQUEST_FEATURES,
    Feature,
)


def checked_request(request: Mapping[str, tf.Tensor]) -> dict[str, tf.RaggedTensor]:
    """Refuses what no impression can hold, and takes the padding out of histories.

    A position whose item id is 0 is padding, wherever it stands, and every other whole number has to be 0 there. The
    events of a history close up, in their order. Candidates keep their positions, so that each score stands where its
    candidate stood. A number that is NaN is missing, and becomes the feature's default.

    Args:
      request: the features of ``REQUEST_FEATURES``, [B, T] histories, [B, N] candidates and [B, 1] of the impression
        itself, int64 or, of numbers, float32.

    Returns:
      The same features, histories [B, ?] without padding, candidates [B, N] with it; and those that are ``served`` as a
      constant.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs, if shapes do not fit one another, or a value is outside
        its range. The message names the feature, the place, what was found and what is allowed.
    """
    with tf.control_dependencies([_require_one_shape(request)]):
        history, candidates = (_together(request, names) for names in (HISTORY_FEATURES, CANDIDATE_FEATURES))
    checks = [_require_values(*history[tf.int64]), _require_values(*candidates[tf.int64])]
    with tf.control_dependencies(checks):
        is_event = history[tf.int64][0][..., 0] != PADDING_ID
        lengths = tf.math.count_nonzero(is_event, axis=1)
        features: dict[str, tf.RaggedTensor] = {}
        for values, names in history.values():
            events = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(values, is_event), lengths, validate=False)
            features |= {name: events.with_values(events.values[:, i]) for i, name in enumerate(names)}
        for values, names in candidates.values():
            slots = tf.RaggedTensor.from_tensor(values)
            features |= {name: slots.with_values(slots.values[:, i]) for i, name in enumerate(names)}
        features |= {name: tf.RaggedTensor.from_tensor(request[name]) for name in CONTEXT_FEATURES}
    for name in (name for name in REQUEST_FEATURES if FEATURES[name].dtype == "float"):
        features[name] = features[name].with_values(_given(features[name].values, FEATURES[name]))
    return features | _constants(features)


def _together(request: Mapping[str, tf.Tensor], names: Sequence[str]) -> dict[tf.DType, tuple[tf.Tensor, list[str]]]:
    """[B, T, features] of each type that there is, whole numbers first, and what they are called."""
    by_type: dict[tf.DType, list[str]] = {}
    for name in names:
        by_type.setdefault(dtype_of(name), []).append(name)
    return {dtype: (tf.stack([request[name] for name in of], axis=-1), of) for dtype, of in by_type.items()}


def _given(values: tf.Tensor, feature: Feature) -> tf.Tensor:
    return tf.where(tf.math.is_nan(values), tf.constant(feature.default, tf.float32), values)


def _constants(features: Mapping[str, tf.RaggedTensor]) -> dict[str, tf.RaggedTensor]:
    of_group = {"history": HISTORY_ITEM_ID, "candidate": CANDIDATE_ITEM_ID}
    served = {}
    for name, feature in FEATURES.items():
        if feature.served is not None:
            like = features[of_group.get(feature.group, CANDIDATE_ITEM_ID)]
            like = like if feature.group in of_group else like[:, :1]
            served[name] = like.with_values(tf.fill(tf.shape(like.values), tf.cast(feature.served, dtype_of(name))))
    return served


def _require_one_shape(request: Mapping[str, tf.Tensor]) -> tf.Tensor:
    of_group = {"history": HISTORY_ITEM_ID, "candidate": CANDIDATE_ITEM_ID}
    groups = [FEATURES[name].group for name in REQUEST_FEATURES]
    # What is the impression's own has one column, whatever leads it.
    leaders = [of_group.get(group, CANDIDATE_ITEM_ID) for group in groups]
    shapes = tf.stack([tf.shape(request[name]) for name in REQUEST_FEATURES])
    columns = tf.gather(shapes[:, 1], [REQUEST_FEATURES.index(leader) for leader in leaders])
    columns = tf.where([group in of_group for group in groups], columns, 1)
    expected = tf.stack([tf.fill(tf.shape(columns), shapes[0, 0]), columns], axis=1)
    fits = tf.reduce_all(shapes == expected, axis=1)

    def message() -> tf.Tensor:
        first = tf.argmax(~fits)
        return tf.strings.join(
            [
                tf.gather(REQUEST_FEATURES, first),
                tf.strings.format(" has the shape {}, expected {}: as many rows as ", (shapes[first], expected[first])),
                f"{HISTORY_ITEM_ID} and ",
                tf.gather(
                    [f"as many columns as {of_group[g]}" if g in of_group else "1 column" for g in groups], first
                ),
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

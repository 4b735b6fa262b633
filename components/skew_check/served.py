"""What servers are asked beside what the model is trained on, feature by feature.

A model that answers alike in every way may still be asked other things than it has learnt: a caller that sends no
history, ages in milliseconds, ids of another catalogue. Each of these breaks no range of a request.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ctr.components.examples.impressions import first_features, values_of
from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY, read_vocabulary
from ctr.components.settings import ServedSkewConfig
from ctr.components.skew import ServedFeature, ServedSkew, ServedState
from ctr.components.skew_check.settings import SkewCheckSettings
from ctr.models.arrays import Array
from ctr.models.errors import DataError
from ctr.models.impression import FEATURES, HISTORY_FEATURES, HISTORY_ITEM_ID, REQUEST_FEATURES, TIMESTAMP, Feature
from ctr.serving.request_log import MODEL_VERSION, read_log

HISTORY_LENGTH: Final = "history_length"
"""Events of a history; no feature of its own, and compared like one."""
_DISTANCE: Final = "largest distance of the cumulative distributions"
_SHARE: Final = "largest difference of a value's share"
_UNKNOWN: Final = "difference of the share of ids unknown to the vocabulary"
_VOCABULARIES: Final = {"item": ITEM_VOCABULARY, "category": CATEGORY_VOCABULARY}


class ServedSkewError(DataError):
    """Requests that are not what the model was trained on; the message names each feature."""


class Collected(NamedTuple):
    """Values of n impressions."""

    impressions: int
    values: Mapping[str, Array]
    """Feature -> all its values [any]; :data:`HISTORY_LENGTH` [n]."""
    seconds: Sequence[int]
    """Times of those that have one."""
    versions: Mapping[int, int]
    """Version that answered -> impressions, of those that say so."""


def collect(impressions: Iterable[Mapping[str, Sequence[Any]]], history_length: int) -> Collected:
    """Gathers features.

    Args:
      impressions: feature -> values. Of a history, the model sees the latest events, and those alone are taken.
      history_length: how many.
    """
    values: dict[str, list[Any]] = {name: [] for name in (*REQUEST_FEATURES, HISTORY_LENGTH)}
    seconds: list[int] = []
    versions, count = Counter[int](), 0
    for impression in impressions:
        count += 1
        for name in REQUEST_FEATURES:
            given = impression.get(name, ())
            values[name] += given[-history_length:] if name in HISTORY_FEATURES else given
        values[HISTORY_LENGTH].append(min(history_length, len(impression.get(HISTORY_ITEM_ID, ()))))
        seconds += impression.get(TIMESTAMP, ())
        versions.update(impression.get(MODEL_VERSION, ()))
    arrays = {name: _array(name, given) for name, given in values.items()}
    return Collected(count, arrays, seconds, dict(sorted(versions.items())))


def _array(name: str, given: list[Any]) -> Array:
    feature = FEATURES.get(name)
    if feature is None or feature.dtype != "float":
        return np.array(given, np.int64)
    # A number that a request does not have is the default to the model.
    numbers = np.array(given, np.float64)
    return np.where(np.isnan(numbers), feature.default, numbers)


def compare_with_log(settings: SkewCheckSettings, train_files: Sequence[str], transform_uri: str) -> ServedSkew:
    """Compares a request log with the train split.

    Args:
      settings: see there.
      train_files: shards of impressions before Transform.
      transform_uri: the transform graph.

    Raises:
      ServedSkewError: if a feature has reached ``skew.stop``; names each.
      DataError: if the log cannot be read.
    """
    config, limit = settings.served, settings.served.max_requests
    log = (values_of(example) for example in itertools.islice(read_log(config.request_log), limit))
    served = collect(log, settings.history_length)
    # A few of each shard: one alone holds the users whose hash is in one range.
    of_each = -(-limit // len(train_files))
    trained = collect(
        itertools.chain.from_iterable(first_features([file], of_each) for file in train_files), settings.history_length
    )
    known = {ids: np.sort(read_vocabulary(transform_uri, name)) for ids, name in _VOCABULARIES.items()}
    found = ServedSkew(
        request_log=config.request_log,
        requests=served.impressions,
        first=min(served.seconds, default=None),
        last=max(served.seconds, default=None),
        versions=dict(served.versions),
        trained=trained.impressions,
        features=tuple(compared(served, trained, known, config)),
    )
    _stop(found)
    return found


def compared(
    served: Collected, trained: Collected, known: Mapping[str, Array], config: ServedSkewConfig
) -> Iterable[ServedFeature]:
    """Each feature of a request, and the length of its history.

    Args:
      served: what was asked.
      trained: what the model has learnt from.
      known: what ids are of -> the ids in its vocabulary, rising.
      config: the bounds.
    """
    enough = served.impressions >= config.min_requests
    for name in (HISTORY_LENGTH, *REQUEST_FEATURES):
        one, other = served.values[name], trained.values[name]
        feature = FEATURES.get(name)
        measure, value = _difference(feature, one, other, known)
        if not enough or not one.size or not other.size:
            value = None
        state, bound = _state(value, config)
        yield ServedFeature(
            feature=name,
            measure=measure,
            value=value,
            served=one.size,
            trained=other.size,
            bound=bound,
            state=state,
        )


def _difference(
    feature: Feature | None, one: Array, other: Array, known: Mapping[str, Array]
) -> tuple[str, float | None]:
    if feature is not None and feature.ids:
        return _UNKNOWN, _unknown(one, other, known[feature.ids]) if one.size and other.size else None
    if feature is not None and (feature.embedding == "code" or (feature.declared and feature.dtype == "int64")):
        return _SHARE, _largest_share(one, other) if one.size and other.size else None
    return _DISTANCE, _distance(one, other) if one.size and other.size else None


def _unknown(one: Array, other: Array, known: Array) -> float:
    shares = [1 - np.isin(each, known).mean() for each in (one, other)]
    return float(abs(shares[0] - shares[1]))


def _largest_share(one: Array, other: Array) -> float:
    values = np.union1d(one, other)
    shares = [np.bincount(np.searchsorted(values, each), minlength=values.size) / each.size for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _distance(one: Array, other: Array) -> float:
    places = np.union1d(one, other)
    shares = [np.searchsorted(np.sort(each), places, side="right") / each.size for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _state(value: float | None, config: ServedSkewConfig) -> tuple[ServedState, float | None]:
    if value is None:
        return "not_compared", None
    if config.stop is not None and value >= config.stop:
        return "stopped", config.stop
    if config.report is not None and value >= config.report:
        return "reported", config.report
    return "within", config.report if config.report is not None else config.stop


def _stop(found: ServedSkew) -> None:
    stopped = [each for each in found.features if each.state == "stopped"]
    if stopped:
        lines = "\n".join(
            f"  {each.feature}: {each.measure} is {each.value:.3f}; skew.stop is {each.bound:g}. "
            f"{each.served:,} values served, {each.trained:,} trained on"
            for each in stopped
        )
        raise ServedSkewError(
            f"{found.request_log}: the requests that were served are not what the model is trained on, and nothing was "
            f"pushed:\n{lines}\nLook at what callers send. If it is right, raise skew.stop for this run, or set it "
            "to null."
        )

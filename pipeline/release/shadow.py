"""Asks two versions the same requests in this process, in turn, and compares what they say. Loads TensorFlow."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ctr.components.examples.impressions import dtype_of
from ctr.models.arrays import Array
from ctr.models.errors import DataError
from ctr.models.impression import REQUEST_FEATURES, declare_features, from_plain
from ctr.pipeline.release.shadow_record import Latency, Shadow
from ctr.serving.impressions import Impression
from ctr.serving.signatures import DECLARED, EXAMPLES, LOGIT, PROBABILITY, RANK_SIGNATURE
from ctr.serving.version_folders import SAVED_MODEL_FILE

_TOP: Final = 10
_TENTHS: Final = 10
_LEAST_SHARE: Final = 1e-4
"""Of a tenth, so that the index of one that is empty stays finite."""

Rank = Callable[..., dict[str, tf.Tensor]]


def compare(
    folders: tuple[str, str], versions: tuple[int, int], impressions: Sequence[Impression], source: str
) -> Shadow:
    """Compares the stable version with the canary, in this order.

    Each request is asked of both, and who is first alternates, so that neither gains by what the machine does
    meanwhile. All of them are asked once before anything is timed, so that no length of a history is new.

    Args:
      folders: of both versions.
      versions: their numbers.
      impressions: at least one.
      source: where they are from, in words.

    Raises:
      DataError: if there is no request, a version cannot be loaded or wants a feature that is not known here or in
        another type, or a score is no number.
    """
    if not impressions:
        raise DataError(f"{source}: there is no request to compare two versions with")
    loaded = [_loaded(folder) for folder in folders]
    ranks = [_asked_for_its_own(*each) for each in zip(loaded, versions, strict=True)]
    inputs = [_tensors(impression) for impression in impressions]
    scores = [[_scores(rank, each) for each in inputs] for rank in ranks]
    for version, of_version in zip(versions, scores, strict=True):
        for place, (logits, _) in enumerate(of_version):
            if not np.isfinite(logits).all():
                raise DataError(f"version {version} gives request {place} of {source} a score that is no number")
    return Shadow(
        stable=versions[0],
        canary=versions[1],
        source=source,
        requests=len(impressions),
        candidates=sum(len(impression.candidates) for impression in impressions),
        **_order(*([logits for logits, _ in each] for each in scores)),
        **_distribution(*(tuple(map(np.concatenate, zip(*each, strict=True))) for each in scores)),
        **dict(zip(("stable_latency", "canary_latency"), _latencies(ranks, inputs), strict=True)),
    )


def declare_features_of(folders: Sequence[str]) -> None:
    """Makes the features that these versions declare the declared ones of this process; of one that two declare, as the
    latter does."""
    rows: dict[str, dict[str, Any]] = {}
    for folder in folders:
        file = Path(folder, SAVED_MODEL_FILE)
        # Most declare nothing, and loading one takes seconds. What cannot be read is said by the comparison.
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes() if file.is_file() else b"")
        if any(DECLARED in graph.signature_def for graph in saved.meta_graphs):
            answer = _loaded(folder).signatures[DECLARED](**{EXAMPLES: tf.constant([b""])})
            rows |= {row["name"]: row for row in json.loads(answer[DECLARED].numpy()[0])}
    declare_features(map(from_plain, rows.values()))


def _loaded(folder: str) -> Any:
    try:
        model = tf.saved_model.load(folder, tags=["serve"])
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise DataError(f"{folder}: cannot be loaded: {str(error).splitlines()[0]}") from error
    if RANK_SIGNATURE not in model.signatures:
        raise DataError(f"{folder}: has no signature {RANK_SIGNATURE!r}")
    return model


def _asked_for_its_own(model: Any, version: int) -> Rank:
    """Two versions need not have the same features declared."""
    signature = model.signatures[RANK_SIGNATURE]
    wanted = signature.structured_input_signature[1]
    for name, of in wanted.items():
        if name not in REQUEST_FEATURES:
            raise DataError(f"version {version} wants {name}, a feature of a plugin: name its module with --plugin")
        if of.dtype != dtype_of(name):
            raise DataError(
                f"version {version} wants {name} as {of.dtype.name}, and the other one as {dtype_of(name).name}: a "
                "request cannot have both, so they are not compared; give the feature of another type a name of its own"
            )

    def rank(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        scores: dict[str, tf.Tensor] = signature(**{name: inputs[name] for name in wanted})
        return scores

    return rank


def _tensors(impression: Impression) -> dict[str, tf.Tensor]:
    features = impression.features()
    return {name: tf.constant([features[name]], dtype_of(name)) for name in REQUEST_FEATURES}


def _scores(rank: Rank, inputs: dict[str, tf.Tensor]) -> tuple[Array, Array]:
    """Logits and probabilities [N] of one request."""
    outputs = rank(**inputs)
    return outputs[LOGIT].numpy()[0], outputs[PROBABILITY].numpy()[0]


def _order(stable: Sequence[Array], canary: Sequence[Array]) -> dict[str, float | None]:
    pairs = [(a, b) for a, b in zip(stable, canary, strict=True) if len(a) > 1]
    long = [(a, b) for a, b in pairs if len(a) > _TOP]
    return {
        "kendall_tau": _mean([kendall_tau(a, b) for a, b in pairs]),
        "same_first": _mean([float(np.argmax(a) == np.argmax(b)) for a, b in pairs]),
        "same_top10": _mean([len({*_first(a)} & {*_first(b)}) / _TOP for a, b in long]),
    }


def kendall_tau(one: Array, other: Array) -> float:
    """Of two lists of scores [n], n >= 2: pairs in the same order less those in the other, of all pairs (tau-a). A pair
    of equal scores in one list alone counts for neither; equal in both is agreement."""
    signs = [np.sign(each[:, None] - each[None, :]) for each in (one, other)]
    upper = np.triu_indices(len(one), 1)
    a, b = (each[upper] for each in signs)
    return float(np.mean(a * b + ((a == 0) & (b == 0))))


def _first(scores: Array) -> list[int]:
    first: list[int] = np.argsort(-scores, kind="stable")[:_TOP].tolist()
    return first


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _distribution(stable: tuple[Array, ...], canary: tuple[Array, ...]) -> dict[str, float | None]:
    (logits, before), (others, after) = stable, canary
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = float(np.corrcoef(logits.astype(np.float64), others)[0, 1]) if len(logits) > 1 else math.nan
    return {
        "mean_difference": float(np.abs(before - after).mean()),
        "correlation": correlation if math.isfinite(correlation) else None,
        "psi": stability_index(before, after),
        "ks": largest_distance(before, after),
    }


def stability_index(before: Array, after: Array) -> float:
    """Of two samples of numbers, in tenths of the first; 0 where they are alike."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, _TENTHS + 1)[1:-1]))
    shares = [
        np.maximum(np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) / len(each), _LEAST_SHARE)
        for each in (before, after)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def largest_distance(one: Array, other: Array) -> float:
    """Of the cumulative distributions of two samples of numbers, 0 to 1."""
    places = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(each), places, side="right") / len(each) for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _latencies(ranks: Sequence[Rank], inputs: Sequence[Any]) -> list[Latency]:
    seconds: list[list[float]] = [[] for _ in ranks]
    turns = itertools.cycle([(0, 1), (1, 0)])
    for each, turn in zip(inputs, turns, strict=False):
        for place in turn:
            start = time.perf_counter()
            _scores(ranks[place], each)
            seconds[place].append(time.perf_counter() - start)
    return [Latency(p50=p50, p95=p95) for p50, p95 in (np.percentile(s, [50, 95]) * 1000 for s in seconds)]

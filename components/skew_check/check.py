"""The same impressions, asked in three ways: as training saw them, by the exported signature, and over gRPC.

Skew between training and serving is silent: each way gives plausible numbers. So some impressions of the eval split
take all of them, from the stored bytes on:

* *training*: what Transform wrote for them, in the model built by this project's code with the exported weights;
* *signature*: their raw features in ``transform_features`` and ``serving_default`` of the exported SavedModel, with
  counts as they were stored;
* *server*: this project's server on loopback with the very files that would be pushed, asked by its client, and
  beside it that signature without stored counts: both look them up.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ctr.components.examples import blocks
from ctr.components.examples.impressions import parse, records, values_of
from ctr.components.examples.vocabulary import CATEGORY_VOCABULARY, ITEM_VOCABULARY, vocabulary_size
from ctr.components.files import is_address
from ctr.components.skew import SkewFindings
from ctr.components.skew_check.settings import SkewCheckSettings
from ctr.models.arrays import Array
from ctr.models.contract import Ranker
from ctr.models.errors import CtrError, DataError
from ctr.models.impression import (
    CANDIDATE_ITEM_ID,
    FEATURES,
    FIRST_KNOWN_INDEX,
    HISTORY_INPUTS,
    INDEX_OF,
    LOOKED_UP,
    MODEL_INPUTS,
    NEGATIVE_SET,
    PADDING_ID,
    REQUEST_FEATURES,
    STORED_FEATURES,
    TIMESTAMP,
    USER_ID,
)
from ctr.models.registry import build_model
from ctr.serving.client import RankingClient
from ctr.serving.impressions import Impression
from ctr.serving.server import ModelServer
from ctr.serving.signatures import DEFAULT_SIGNATURE, EXAMPLES, LOGIT, TRANSFORM_FEATURES

IMPRESSIONS: Final = 300
_BLOCKS_OF_A_SHARD: Final = 10
"""That impressions are drawn from: a gzip file is read from its beginning."""
_OF_A_REQUEST: Final = 20
_SECONDS: Final = 120.0
"""For the server to load the model, and for one answer."""

TOLERANCES: Final = {"float32": 1e-5, "mixed_float16": 2e-2, "mixed_bfloat16": 1e-1}
"""By precision of the computation: half precision depends that much on the shape of a batch."""

_MODEL: Final = "ctr"
_WEIGHT_KEY: Final = "weights/{}/.ATTRIBUTES/VARIABLE_VALUE"
_WEIGHT: Final = re.compile(_WEIGHT_KEY.format(r"\d+"))

_SAME_RUN: Final = "are both splits of the same run?"

_logger = logging.getLogger(__name__)


class SkewError(CtrError):
    """A model that does not answer alike in every way; the message names the impression, the candidate and both."""


class Sample(NamedTuple):
    """n impressions, the same ones in two forms."""

    raw: Array
    """[n] serialized, as ingest wrote them."""
    transformed: dict[str, tf.RaggedTensor]
    """Their model inputs, as Transform wrote them."""


def check(
    settings: SkewCheckSettings,
    *,
    raw_files: Sequence[str],
    transformed_files: Sequence[str],
    transform_uri: str,
    model_folder: str,
) -> SkewFindings:
    """Passes if ids are equal and scores within the tolerance, whichever way a model is asked.

    Args:
      settings: see there.
      raw_files: shards of impressions before Transform.
      transformed_files: likewise after it, shard by shard.
      transform_uri: the transform graph.
      model_folder: the SavedModel that would be pushed.

    Raises:
      SkewError: names the first impression and candidate where two ways differ, with both values.
      DataError: if there is no impression, or the two forms are not of the same ones.
    """
    sample = draw(raw_files, transformed_files, settings.seed)
    names = _Names(sample.raw)
    served = tf.saved_model.load(model_folder, tags=["serve"])
    raw = tf.constant(sample.raw)
    asked = served.signatures[TRANSFORM_FEATURES](**{EXAMPLES: raw})
    inputs = _as_trained(sample.transformed, settings.history_length)
    # Where serving puts a constant on purpose, both are asked with that.
    inputs |= {name: asked[name] for name in _constants()}
    names.check_equal(inputs, asked)

    tolerance = TOLERANCES[settings.precision]
    by_signature = served.signatures[DEFAULT_SIGNATURE](**{EXAMPLES: raw})[LOGIT].numpy()
    model = _restored(settings, transform_uri, model_folder)
    direct = None
    if model is not None:
        by_model = model(inputs, training=False).logits.numpy()
        direct = names.check_close("the model, on what Transform wrote", by_model, by_signature, tolerance)
    # A request does not carry what serving looks up, which an impression has as of its own time.
    as_asked = served.signatures[DEFAULT_SIGNATURE](**{EXAMPLES: _without_looked_up(sample.raw)})[LOGIT].numpy()
    over_grpc = names.check_close("the server", _answers(sample.raw, model_folder, as_asked), as_asked, tolerance)
    return SkewFindings(
        impressions=len(sample.raw),
        candidates=int(names.real.sum()),
        tolerance=tolerance,
        model_to_signature=direct,
        signature_to_server=over_grpc,
    )


def _constants() -> list[str]:
    """The model's inputs that serving puts a constant in the place of."""
    return [INDEX_OF.get(name, name) for name, feature in FEATURES.items() if isinstance(feature.served, int)]


def draw(raw_files: Sequence[str], transformed_files: Sequence[str], seed: int) -> Sample:
    """Draws up to :data:`IMPRESSIONS` impressions from the first ones of a shard, and of more where it has too few.

    Raises:
      DataError: as for :func:`check`.
    """
    # Of what has an encoding the codes alone are stored.
    raw_names = (name for name in REQUEST_FEATURES if name in STORED_FEATURES)
    rng, known = np.random.default_rng(seed), (USER_ID, TIMESTAMP, *raw_names)
    names = list(dict.fromkeys((*known, *MODEL_INPUTS)))
    pairs = list(zip(sorted(raw_files), sorted(transformed_files), strict=True))
    raw: list[bytes] = []
    transformed: list[dict[str, tf.RaggedTensor]] = []
    for place in rng.permutation(len(pairs)):
        before, after = pairs[place]
        with blocks.damage_named([after]):
            stored = [*blocks.read([after], names).take(_BLOCKS_OF_A_SHARD)]
        if not stored:
            continue
        features = {name: tf.concat([each[name] for each in stored], axis=0) for name in names}
        count = int(features[USER_ID].shape[0])
        serialized = [*records([before]).take(count).as_numpy_iterator()]
        chosen = rng.permutation(count)[: IMPRESSIONS - len(raw)]
        if len(serialized) < count:
            raise DataError(f"{before}: {len(serialized)} impressions, but there are more after Transform; {_SAME_RUN}")
        raw += [serialized[i] for i in chosen]
        transformed.append({name: tf.gather(values, chosen) for name, values in features.items()})
        if len(raw) == IMPRESSIONS:
            break
    if not raw:
        raise DataError("no impressions to ask a model with: the split is empty")
    joined = {name: tf.concat([each[name] for each in transformed], axis=0) for name in names}
    _check_same(parse(tf.constant(raw), known), joined)
    return Sample(np.array(raw, dtype=object), {name: joined[name] for name in MODEL_INPUTS})


def _check_same(before: Mapping[str, tf.RaggedTensor], after: Mapping[str, tf.RaggedTensor]) -> None:
    """That two forms are of the same impressions."""
    for name in before:
        pairs = zip(before[name].numpy(), after[name].numpy(), strict=True)
        if strange := [i for i, pair in enumerate(pairs) if not np.array_equal(*pair)]:
            raise DataError(
                f"impression {strange[0]} of the sample is another one after Transform, its {name} differs; {_SAME_RUN}"
            )


def _as_trained(transformed: Mapping[str, tf.RaggedTensor], history_length: int) -> dict[str, tf.Tensor]:
    return {
        name: values[:, -history_length:].to_tensor(shape=[None, history_length])
        if name in HISTORY_INPUTS
        else values.to_tensor()
        for name, values in transformed.items()
    }


def _restored(settings: SkewCheckSettings, transform_uri: str, model_folder: str) -> Ranker | None:
    """The model as this project's code builds it, with the weights of the export; None if they have other names."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        model = build_model(
            settings.model,
            item_indices=FIRST_KNOWN_INDEX + vocabulary_size(transform_uri, ITEM_VOCABULARY),
            category_indices=FIRST_KNOWN_INDEX + vocabulary_size(transform_uri, CATEGORY_VOCABULARY),
            history_length=settings.history_length,
        )
    finally:
        keras.config.set_dtype_policy(before)
    return model if with_exported_weights(model, model_folder) else None


def with_exported_weights(model: Ranker, model_folder: str) -> bool:
    """Gives a model the weights of an export, which are in the order of the model's ``weights``.

    Returns:
      False if their number or a shape is another, as may be of a model from outside the tree; the model is of no use
      then.
    """
    reader = tf.train.load_checkpoint(os.path.join(model_folder, "variables", "variables"))
    keys = [name for name in reader.get_variable_to_shape_map() if _WEIGHT.fullmatch(name)]
    try:
        if len(keys) != len(model.weights):
            raise LookupError(f"{len(keys)} variables for {len(model.weights)} weights")
        for number, weight in enumerate(model.weights):
            weight.assign(reader.get_tensor(_WEIGHT_KEY.format(number)))
    except (LookupError, ValueError, tf.errors.NotFoundError) as error:
        _logger.warning("the model's weights are not those of the export, so it is not called by itself: %s", error)
        return False
    return True


def _without_looked_up(raw: Array) -> tf.Tensor:
    """[n] impressions as a client serializes them."""
    examples = [tf.train.Example.FromString(each) for each in raw]
    for feature in (feature for feature in FEATURES.values() if feature.served == LOOKED_UP):
        for example in examples:
            example.features.feature.pop(feature.name, None)
    return tf.constant([example.SerializeToString() for example in examples])


def _answers(raw: Array, model_folder: str, like: Array) -> Array:
    """[n, N] logits over gRPC, where there is no candidate those of ``like``."""
    impressions = [Impression.from_features(values_of(tf.train.Example.FromString(each))) for each in raw]
    logits = like.copy()
    with tempfile.TemporaryDirectory() as base:
        _lay_out(model_folder, base)
        with (
            ModelServer(base, _MODEL, poll_seconds=0.05) as server,
            RankingClient(f"127.0.0.1:{server.port}", _MODEL, _SECONDS) as client,
        ):
            server.wait_until_ready(_SECONDS)
            for start in range(0, len(impressions), _OF_A_REQUEST):
                rankings = client.rank_batch(impressions[start : start + _OF_A_REQUEST])
                for row, ranking in enumerate(rankings, start):
                    for candidate in ranking.candidates:
                        logits[row, candidate.position] = candidate.logit
    return logits


def _lay_out(model_folder: str, base: str) -> None:
    """Makes a base directory with one version of the very files."""
    version = os.path.join(base, "1")
    if not is_address(model_folder):
        os.symlink(os.path.abspath(model_folder), version)
        return
    for folder, _, names in tf.io.gfile.walk(model_folder):
        there = os.path.join(version, folder[len(model_folder) :].lstrip("/"))
        os.makedirs(there)
        for name in names:
            tf.io.gfile.copy(os.path.join(folder, name), os.path.join(there, name))


class _Names:
    """What impressions and candidates are called where two answers differ.

    Args:
      raw: [n] serialized.
    """

    def __init__(self, raw: Array) -> None:
        self._features = parse(tf.constant(raw), (USER_ID, TIMESTAMP, NEGATIVE_SET, CANDIDATE_ITEM_ID))
        self.items: Array = self._features[CANDIDATE_ITEM_ID].to_tensor().numpy()
        """[n, N] of the candidates, 0 where there is none."""
        self.real: Array = self.items != PADDING_ID

    def of(self, row: int) -> str:
        """Of an impression."""
        user, time = (int(self._features[name][row][0]) for name in (USER_ID, TIMESTAMP))
        kind = self._features[NEGATIVE_SET][row].numpy().decode()
        return f"user {user} at {time}, {kind} negatives"

    def check_equal(self, trained: Mapping[str, tf.Tensor], served: Mapping[str, tf.Tensor]) -> None:
        """Of a model's inputs [n, L] and [n, N]."""
        if missing := trained.keys() ^ served.keys():
            raise SkewError(f"{', '.join(sorted(missing))}: an input of the model in one way of asking it alone")
        for name in MODEL_INPUTS:
            one, other = trained[name].numpy(), served[name].numpy()
            if one.shape != other.shape:
                raise SkewError(
                    f"{name}: of shape {one.shape} after Transform, {other.shape} in the exported signature"
                )
            for row, place in np.argwhere(one != other)[:1]:
                raise SkewError(
                    f"{self.of(row)}: {name} {place} is {one[row, place]} after Transform and {other[row, place]} in "
                    "the exported signature; was the model trained behind another vocabulary?"
                )

    def check_close(self, way: str, logits: Array, by_signature: Array, tolerance: float) -> float:
        """Of logits [n, N]; gives the largest difference, relative to 1 or to the logit."""
        with np.errstate(invalid="ignore"):
            difference = np.abs(logits - by_signature) / np.maximum(1, np.abs(by_signature))
        # What is no number differs from all.
        difference = np.where(self.real, np.where(np.isfinite(difference), difference, np.inf), 0)
        row, place = map(int, np.unravel_index(np.argmax(difference), difference.shape))
        largest = float(difference[row, place])
        if largest > tolerance:
            raise SkewError(
                f"{self.of(row)}, candidate {place} (item {self.items[row, place]}): its logit is "
                f"{logits[row, place]:.6g} by {way}, and {by_signature[row, place]:.6g} by the exported signature; "
                f"they may differ by {tolerance:g}, and {(difference > tolerance).sum()} of {self.real.sum()} "
                "candidates differ by more"
            )
        return largest

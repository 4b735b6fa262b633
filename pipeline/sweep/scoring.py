"""Scores the eval split in process, pair by pair, as the Evaluator does in its own step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import tensorflow as tf
from scipy.special import expit

from ctr.components.examples.impressions import BATCH_SIZE, Impressions, parse, records
from ctr.components.scoring.by_set import pairs_by_set
from ctr.components.scoring.logits import scorer
from ctr.components.scoring.pairs import Pairs, auc, auc_new, finite, gauc, log_loss
from ctr.components.trainer.input_pipeline import to_model_inputs
from ctr.models.contract import Ranker
from ctr.models.impression import HISTORY_FEATURES, HISTORY_INPUTS, LABEL, MODEL_INPUTS, NEGATIVE_SET, USER_ID
from ctr.pipeline.sweep.results import SetMetrics

_SHUFFLE_SEED: Final = 2017
_SHUFFLE_BUFFER: Final = 200_000


def score(model: Ranker, files: Sequence[str], history_length: int) -> dict[str, Pairs]:
    """Scores every pair of shards of transformed examples; by negative set, what is predicted is the logit."""
    return _score(model, map(Impressions, _parsed(records(files).batch(BATCH_SIZE))), history_length)


def score_with_shuffled_histories(model: Ranker, files: Sequence[str], history_length: int, negative_set: str) -> Pairs:
    """The same for one negative set, each impression with the history of an impression of another user.

    Impressions are shuffled, and each takes the history of the one before it in its batch. Where both are of one
    user, the impression is left out.
    """
    wanted = records(files).batch(BATCH_SIZE * 8).map(lambda batch: _only(batch, negative_set)).unbatch()
    batches = _parsed(wanted.shuffle(_SHUFFLE_BUFFER, seed=_SHUFFLE_SEED).batch(BATCH_SIZE))
    return _score(model, map(_with_exchanged_histories, batches), history_length)[negative_set]


def metrics(pairs: Pairs) -> SetMetrics:
    """Of a negative set as :func:`score` gives it.

    Raises:
      DataError: if a logit is NaN.
    """
    return SetMetrics(
        pairs=pairs.labels.size,
        auc=auc(pairs),
        auc_new=finite(auc_new(pairs)),
        gauc=finite(gauc(pairs)),
        log_loss=log_loss(pairs.scored(expit(pairs.predictions.astype(np.float64)))),
    )


def _only(serialized: tf.Tensor, negative_set: str) -> tf.Tensor:
    return tf.boolean_mask(serialized, parse(serialized, [NEGATIVE_SET])[NEGATIVE_SET] == negative_set)


def _parsed(batches: tf.data.Dataset) -> tf.data.Dataset:
    features = (*MODEL_INPUTS, LABEL, USER_ID, NEGATIVE_SET)
    return batches.map(lambda serialized: parse(serialized, features)).prefetch(tf.data.AUTOTUNE)


def _with_exchanged_histories(features: Mapping[str, tf.RaggedTensor]) -> Impressions:
    users = features[USER_ID].numpy()[:, 0]
    before = np.roll(np.arange(users.size), 1)
    kept = np.flatnonzero(users != users[before])
    rows = {name: before[kept] if name in (*HISTORY_FEATURES, *HISTORY_INPUTS) else kept for name in features}
    return Impressions({name: tf.gather(values, rows[name]) for name, values in features.items()})


def _score(model: Ranker, batches: Iterable[Impressions], history_length: int) -> dict[str, Pairs]:
    logits_of, parts = scorer(model), defaultdict[str, list[Pairs]](list)
    for batch in batches:
        logits = logits_of(to_model_inputs(batch.features, history_length))
        for name, pairs in pairs_by_set(batch, logits[batch.real]):
            parts[name].append(pairs)
    return {name: Pairs.joined(parts[name]) for name in sorted(parts)}

"""Scores the eval split in process, pair by pair, as the Evaluator does in its own step."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import tensorflow as tf
from scipy.special import expit

from ctr.components.examples import blocks
from ctr.components.examples.impressions import BATCH_SIZE, Impressions
from ctr.components.scoring.by_set import pairs_by_set
from ctr.components.scoring.logits import scorer
from ctr.components.scoring.pairs import Pairs, auc, auc_new, finite, gauc, log_loss
from ctr.components.trainer.input_pipeline import to_model_inputs
from ctr.models.contract import Ranker
from ctr.models.impression import HISTORY_FEATURES, HISTORY_INPUTS, LABEL, MODEL_INPUTS, NEGATIVE_SET, USER_ID
from ctr.pipeline.sweep.results import SetMetrics

_SHUFFLE_SEED: Final = 2017
_BLOCKS_AT_ONCE: Final = 800
"""Of which each holds impressions of several negative sets, up to 500 in all."""

Features: TypeAlias = "dict[str, tf.RaggedTensor]"


def score(model: Ranker, files: Sequence[str], history_length: int) -> dict[str, Pairs]:
    """Scores every pair of shards of transformed examples; by negative set, what is predicted is the logit."""
    return _score(model, map(Impressions, _read(files)), history_length)


def score_with_shuffled_histories(model: Ranker, files: Sequence[str], history_length: int, negative_set: str) -> Pairs:
    """The same for one negative set, each impression with the history of an impression of another user.

    Impressions are shuffled, some hundred thousand at a time, and each takes the history of the one before it in its
    batch. Where both are of one user, the impression is left out.
    """
    batches = _shuffled(_only(batch, negative_set) for batch in _read(files))
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


def _read(files: Sequence[str]) -> Iterator[Features]:
    with blocks.damage_named(files):
        yield from blocks.read(files, (*MODEL_INPUTS, LABEL, USER_ID, NEGATIVE_SET))


def _only(features: Features, negative_set: str) -> Features:
    wanted = features[NEGATIVE_SET] == negative_set
    return {name: tf.ragged.boolean_mask(values, wanted) for name, values in features.items()}


def _shuffled(batches: Iterable[Features]) -> Iterator[Features]:
    rng = np.random.default_rng(_SHUFFLE_SEED)
    several = iter(batches)
    while waiting := list(itertools.islice(several, _BLOCKS_AT_ONCE)):
        whole = {name: tf.concat([features[name] for features in waiting], axis=0) for name in waiting[0]}
        order = rng.permutation(int(whole[NEGATIVE_SET].shape[0]))
        for start in range(0, len(order), BATCH_SIZE):
            yield {name: tf.gather(values, order[start : start + BATCH_SIZE]) for name, values in whole.items()}


def _with_exchanged_histories(features: Features) -> Impressions:
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

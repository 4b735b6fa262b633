"""Trains one model of a sweep and measures it."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Final

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.shards import list_shards, split_folder
from ctr.components.trainer.export import export
from ctr.components.trainer.fit import TrainingDiverged
from ctr.components.trainer.settings import TrainerSettings
from ctr.components.trainer.train import Trained, train
from ctr.models.contract import Ranker
from ctr.models.impression import EVAL_SPLIT, FEATURES, REQUEST_FEATURES, TRAIN_SPLIT
from ctr.pipeline.settings.pipeline_config import PipelineConfig
from ctr.pipeline.sweep.results import TrialResult
from ctr.pipeline.sweep.scoring import metrics, score, score_with_shuffled_histories
from ctr.pipeline.sweep.trials import Trial
from ctr.serving.signatures import LOGIT, RANK_SIGNATURE

SCORED_CANDIDATES: Final = 100
_SCORING_CALLS: Final = 60


def measure(
    trial: Trial, key: str, config: PipelineConfig, transform_graph: str, examples: str, catalogue: str
) -> TrialResult:
    """Trains, evaluates, exports and times one model; a failed training is a result, too.

    ``config`` is what all trials share; graph, transformed examples and the catalogue of the train split are addresses.
    """
    start = time.perf_counter()
    settled = trial.configure(config)
    transform = tft.TFTransformOutput(transform_graph)
    history_length = settled.ingest.history_length
    try:
        trained = train(
            TrainerSettings.of(settled.model, settled.sampler, settled.training, settled.ingest, settled.plugins),
            transform=transform,
            catalogue_size=len(Catalogue.read(catalogue).item_ids),
            train_files=_files(examples, TRAIN_SPLIT),
            validation_files=_files(examples, settled.training.choose_epoch_on),
        )
    except TrainingDiverged as error:
        return TrialResult(key=key, trial=trial, failure=str(error), seconds=time.perf_counter() - start)
    judged = settled.ingest.judged_set
    eval_files = _files(examples, EVAL_SPLIT)
    sets = score(trained.model, eval_files, history_length)
    scale, offset = trained.calibration
    uncalibrated = sets[judged].scored((sets[judged].predictions - offset) / scale)
    shuffled = metrics(score_with_shuffled_histories(trained.model, eval_files, history_length, judged))
    export_bytes, p50_ms = _export_and_time(trained.model, transform, history_length, catalogue)
    return TrialResult(
        key=key,
        trial=trial,
        sets={name: metrics(pairs) for name, pairs in sets.items()},
        shuffled_auc=shuffled.auc,
        uncalibrated_log_loss=metrics(uncalibrated).log_loss,
        preparation_seconds=trained.preparation_seconds,
        epochs=len(trained.epochs),
        impressions_per_second=_rate(trained),
        parameters=trained.model.count_params(),
        embedding_parameters=trained.model.embedding.count_params(),
        export_bytes=export_bytes,
        p50_ms=p50_ms,
        seconds=time.perf_counter() - start,
    )


def measure_json(trial: str, key: str, config: str, transform_graph: str, examples: str, catalogue: str) -> str:
    """:func:`measure` between processes: JSON and other text in, JSON out."""
    # First, because it imports the plugins whose models a trial may name.
    shared = PipelineConfig.from_json(config)
    return measure(
        Trial.model_validate_json(trial), key, shared, transform_graph, examples, catalogue
    ).model_dump_json()


def _files(examples: str, split: str) -> list[str]:
    return list_shards(split_folder(examples, split))


def _rate(trained: Trained) -> float:
    rates = [epoch.impressions_per_second for epoch in trained.epochs]
    return float(np.median(rates[1:] or rates))


def _export_and_time(
    model: Ranker, transform: tft.TFTransformOutput, history_length: int, catalogue: str
) -> tuple[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        export(model, transform, history_length, folder, catalogue)
        size = sum(os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names)
        rank = tf.saved_model.load(folder).signatures[RANK_SIGNATURE]
        request = _request(history_length)
        times = []
        for _ in range(_SCORING_CALLS):
            start = time.perf_counter()
            rank(**request)[LOGIT].numpy()
            times.append(time.perf_counter() - start)
    # The first calls trace and allocate.
    return size, 1000 * float(np.median(times[_SCORING_CALLS // 6 :]))


def _request(history_length: int) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(0)
    request = {}
    for name in REQUEST_FEATURES:
        feature = FEATURES[name]
        shape = 1, {"candidate": SCORED_CANDIDATES, "history": history_length}.get(feature.group, 1)
        highest = min(feature.largest, 999_999)
        number = feature.dtype == "float"
        values = 100 * rng.random(shape) if number else rng.integers(feature.smallest, highest + 1, shape)
        request[name] = tf.constant(values, tf.float32 if number else tf.int64)
    return request

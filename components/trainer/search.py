"""Searches for settings: trains with different values, and keeps those of the best validation AUC."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import keras
import keras_tuner
import tensorflow_transform as tft
from keras_tuner.engine import base_tuner

from ctr.components.settings import SearchRange, TunerConfig
from ctr.components.trainer.fit import TrainingDiverged
from ctr.components.trainer.settings import TunerSettings
from ctr.components.trainer.train import train
from ctr.components.tuning import SearchTrial, Tuning, decoded
from ctr.models.errors import DataError

_OBJECTIVE: Final = "validation_auc"

_logger = logging.getLogger(__name__)


def search(
    settings: TunerSettings,
    *,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    transform_uri: str,
    catalogue_size: int,
    folder: str,
) -> tuple[Tuning, dict[str, Any]]:
    """Trains as often as ``tuner.trials`` says.

    Args:
      settings: what is searched, and what is trained otherwise.
      train_files: shards of transformed impressions.
      validation_files: likewise, which each trial is judged on.
      transform_uri: the transform graph.
      catalogue_size: items of the train split.
      folder: where a search that was stopped left off, and this one may. Trials that it holds are not repeated.

    Returns:
      All trials, and the best values as Keras Tuner has them.

    Raises:
      DataError: if no training came to its end, or as a training does.
    """
    transform = tft.TFTransformOutput(transform_uri)
    oracle = _oracle(settings.tuner)

    class Search(base_tuner.BaseTuner):
        def run_trial(self, trial: Any, *_args: Any, **_named: Any) -> dict[str, float]:
            values = _values(trial.hyperparameters)
            try:
                trained = train(
                    settings.trial(values),
                    transform=transform,
                    catalogue_size=catalogue_size,
                    train_files=train_files,
                    validation_files=validation_files,
                )
            except TrainingDiverged as error:
                _logger.warning("Trial %s, %s: %s", trial.trial_id, values, error)
                raise keras_tuner.errors.FailedTrialError(str(error)) from error
            except Exception as error:
                # Whatever else fails fails again: Keras Tuner would go on to the next trial.
                raise keras_tuner.errors.FatalError(str(error)) from error
            auc = max(epoch.validation_auc for epoch in trained.epochs)
            _logger.info("Trial %s, %s: validation AUC %.4f", trial.trial_id, values, auc)
            # Graphs and weights of one trial are of no use to the next.
            del trained
            keras.utils.clear_session()
            gc.collect()
            return {_OBJECTIVE: auc}

    try:
        Search(oracle, directory=folder, project_name="trials").search()
    except keras_tuner.errors.FatalError as fatal:
        raise fatal.__cause__ or fatal from None
    trials = [oracle.trials[trial_id] for trial_id in oracle.start_order]
    found = Tuning(
        algorithm=settings.tuner.algorithm,
        trials=tuple(SearchTrial(values=_values(trial.hyperparameters), auc=trial.score) for trial in trials),
    )
    if all(trial.auc is None for trial in found.trials):
        raise DataError(
            f"tuner.space: none of {len(trials)} trials came to its end; narrow it, e.g. to lower learning rates"
        )
    best = next(trial for trial in trials if _values(trial.hyperparameters) == found.best.values)
    return found, best.hyperparameters.get_config()


def _values(hyperparameters: Any) -> dict[str, Any]:
    return {name: decoded(value) for name, value in hyperparameters.values.items()}


def _oracle(config: TunerConfig) -> Any:
    kind = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    }
    return kind[config.algorithm](
        objective=keras_tuner.Objective(_OBJECTIVE, "max"),
        max_trials=config.trials,
        seed=config.seed,
        hyperparameters=_space(config.space),
        allow_new_entries=False,
        # Values that diverge are a result, and no reason to stop.
        max_consecutive_failed_trials=config.trials + 1,
    )


def _space(space: Mapping[str, SearchRange | tuple[Any, ...]]) -> Any:
    declared = keras_tuner.HyperParameters()
    for name, values in space.items():
        if isinstance(values, SearchRange):
            declare = declared.Int if values.whole else declared.Float
            declare(name, values.low, values.high, step=values.step, sampling="log" if values.log else "linear")
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            whole = all(isinstance(value, int) for value in values)
            declared.Choice(name, [value if whole else float(value) for value in values])
        else:
            declared.Choice(name, [json.dumps(value) for value in values])
    return declared

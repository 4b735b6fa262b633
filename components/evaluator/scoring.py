"""Scores impressions for TFMA, many at a time.

TFMA makes an Extract of each impression, and with two candidates each its unpacking, slicing and combining cost several
times what the models do. Here an Extract is what of a batch has one negative set: the same metrics, slices and gate
of TFMA come from some hundred Extracts instead of some ten thousand. TFX's Evaluator takes :func:`custom_extractors`
from this module, which it is given as its ``module_path``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue
from tensorflow_model_analysis.proto import config_pb2

from ctr.components.examples.impressions import BATCH_SIZE, Impressions, parse
from ctr.components.progress import Counter, say
from ctr.components.scoring.by_set import pairs_by_set
from ctr.components.scoring.pair_metrics import CANDIDATES, POSITIVE_IS_NEW
from ctr.models.arrays import Array
from ctr.models.impression import CANDIDATE_ITEM_ID, HISTORY_ITEM_ID, LABEL, NEGATIVE_SET, USER_ID

COMPONENT: Final = "Evaluator"

_FEATURES: Final = (USER_ID, NEGATIVE_SET, LABEL, HISTORY_ITEM_ID, CANDIDATE_ITEM_ID)


def custom_extractors(
    eval_shared_model: Any, eval_config: config_pb2.EvalConfig, tensor_adapter_config: Any
) -> list[tfma.extractors.Extractor]:
    """TFX's hook: what stands in the place of TFMA's default extractors.

    Args:
      eval_shared_model: the candidate, or a list of it and the latest blessed model.
      eval_config: its model specs name the signature and the output that is judged.
      tensor_adapter_config: not used; impressions are parsed by their own definition.
    """
    del tensor_adapter_config
    models = eval_shared_model if isinstance(eval_shared_model, list) else [eval_shared_model]
    specs = {spec.name if len(models) > 1 else "": spec for spec in eval_config.model_specs}
    return [
        tfma.extractors.Extractor("ScoreImpressions", beam.ParDo(ScoreImpressions(models, specs))),
        tfma.extractors.SliceKeyExtractor(eval_config=eval_config, materialize=False),
    ]


class ScoreImpressions(beam.DoFn):
    """Extracts with Arrow batches of serialized impressions -> Extracts of scored pairs, see :meth:`_extracts`.

    Batches are filled up across those that come in, so that how scores are rounded does not depend on how fast the
    files were read.

    Args:
      models: TFMA's shared models.
      specs: by model name, "" for a single one.
    """

    def __init__(self, models: Sequence[Any], specs: Mapping[str, Any]) -> None:
        names = [model.model_name if len(models) > 1 else "" for model in models]
        self._loaders = {name: model.model_loader for name, model in zip(names, models, strict=True)}
        self._outputs = {name: (specs[name].signature_name, specs[name].prediction_key) for name in names}

    def setup(self) -> None:
        """Loads the models."""
        say(COMPONENT, f"loading {len(self._loaders)} model(s)")
        self._models = {name: loader.load() for name, loader in self._loaders.items()}
        self._progress = Counter(COMPONENT, "impressions", "scored")

    def start_bundle(self) -> None:
        """Begins with no impressions waiting."""
        self._waiting: list[bytes] = []

    def process(self, element: tfma.Extracts) -> Iterator[tfma.Extracts]:
        """Scores all full batches."""
        records = element[tfma.ARROW_RECORD_BATCH_KEY].column(tfma.ARROW_INPUT_COLUMN)
        self._waiting += records.flatten().to_pylist()
        while len(self._waiting) >= BATCH_SIZE:
            batch, self._waiting = self._waiting[:BATCH_SIZE], self._waiting[BATCH_SIZE:]
            yield from self._extracts(batch)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Scores what is left."""
        window = GlobalWindow()
        if self._waiting:
            for extracts in self._extracts(self._waiting):
                yield WindowedValue(extracts, window.max_timestamp(), [window])

    def _extracts(self, serialized: list[bytes]) -> Iterator[tfma.Extracts]:
        """Of [B] impressions: labels, scores, users and whether the positive is new, a value a pair, by negative set.

        Raises:
          ValueError: if labels or scores are not one a candidate.
        """
        examples = tf.constant(serialized)
        impressions = Impressions(parse(examples, _FEATURES))
        scores = np.stack([self._scores(name, examples, impressions.real) for name in self._models], axis=1)
        for negative_set, pairs in pairs_by_set(impressions, scores):
            predictions = {
                name: {self._outputs[name][1]: pairs.predictions[:, i]} for i, name in enumerate(self._models)
            }
            yield {
                tfma.FEATURES_KEY: {
                    NEGATIVE_SET: np.array([negative_set.encode()]),
                    USER_ID: pairs.users,
                    POSITIVE_IS_NEW: pairs.new,
                    CANDIDATES: pairs.candidates,
                },
                tfma.LABELS_KEY: pairs.labels,
                tfma.PREDICTIONS_KEY: predictions.get("", predictions),
            }
        self._progress.add(len(serialized))

    def _scores(self, name: str, examples: tf.Tensor, real: Array) -> Array:
        signature, output = self._outputs[name]
        function = self._models[name].signatures[signature]
        # By keyword: a call by position first fails inside TensorFlow, which writes all examples into the message.
        (argument,) = function.structured_input_signature[1]
        scores: Array = function(**{argument: examples})[output].numpy()
        if scores.shape != real.shape:
            raise ValueError(f"model {name or 'candidate'}: {output} is {scores.shape} for candidates {real.shape}")
        return scores[real]

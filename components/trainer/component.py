"""The Trainer step."""

from __future__ import annotations

from tfx import types
from tfx.components import Trainer
from tfx.proto import trainer_pb2

from components.config import TrainingConfig
from components.trainer.run_fn import HISTORY_LENGTH_KEY, MODEL_KEY, TRAINING_KEY
from components.trainer.train import epoch_split
from models.config import ModelConfig
from models.impression import TRAIN_SPLIT


def trainer(
    examples: types.BaseChannel,
    transform_graph: types.BaseChannel,
    model: ModelConfig,
    training: TrainingConfig,
    history_length: int,
) -> Trainer:
    """TFX's Trainer with this project's ``run_fn``.

    Args:
      examples: transformed, splits train and validation are read.
      transform_graph: of the Transform step.
      model: what is trained.
      training: how.
      history_length: L.
    """
    return Trainer(
        run_fn="components.trainer.run_fn.run_fn",
        examples=examples,
        transform_graph=transform_graph,
        train_args=trainer_pb2.TrainArgs(splits=[TRAIN_SPLIT]),
        eval_args=trainer_pb2.EvalArgs(splits=[epoch_split(training)]),
        custom_config={
            MODEL_KEY: model.model_dump_json(),
            TRAINING_KEY: training.model_dump_json(),
            HISTORY_LENGTH_KEY: history_length,
        },
    )

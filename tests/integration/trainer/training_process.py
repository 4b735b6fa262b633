"""Trains small models in a process of its own and prints what came out as JSON; run by the tests.

Logical devices and the cluster have to be set before TensorFlow starts, hence a process.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from components.config import TrainingConfig
from components.trainer.fit import Trainer, fit
from components.trainer.input_pipeline import MODEL_FEATURES
from components.trainer.strategy import training_strategy
from models.config import ModelConfig
from models.impression import INDEX_OF
from models.registry import build_model


def batches(rows: int, batch_size: int) -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    real = np.arange(6)[None, :] < rng.integers(0, 7, rows)[:, None]
    values = {
        name: rng.integers(1, 6, (rows, 3)) if name.startswith("candidate") else rng.integers(1, 5, real.shape) * real
        for name in MODEL_FEATURES
    }
    for name, index in INDEX_OF.items():
        values[index] = np.where(values[name] > 0, values[name] + 1, 0)
    labels = np.zeros((rows, 3), "float32")
    labels[:, 0] = 1
    # The last batch is partly padding, as the input pipeline makes it.
    missing = -rows % batch_size
    inputs, padded = tf.nest.map_structure(lambda x: np.pad(x, [(0, missing), (0, 0)]), (values, labels))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices((inputs, padded)).batch(batch_size, True).with_options(options)


def train(name: str, strategy: tf.distribute.Strategy) -> dict[str, object]:
    keras.utils.set_random_seed(1)
    # Each replica draws its own unknown items and its own negatives of auxiliary losses, so equality needs none.
    config = ModelConfig.model_validate(
        {
            "name": name,
            "embedding_dim": 4,
            "item_unknown_rate": 0.0,
            "dien": {"auxiliary_weight": 0.0},
            "bert4rec": {"cloze_weight": 0.0},
        }
    )
    with strategy.scope():
        model = build_model(config, 10, 10, history_length=4)
    trainer = Trainer(model, strategy, learning_rate=1e-2, row_decay=1e-3)
    data = batches(rows=150, batch_size=32)
    epochs = fit(trainer, data, data, TrainingConfig(epochs=3, early_stopping_patience=3))
    return {
        "train_loss": [epoch.train_loss for epoch in epochs],
        "validation_auc": [epoch.validation_auc for epoch in epochs],
        "weights": [float(np.abs(weight).sum()) for weight in model.get_weights()],
    }


def main(cpu_replicas: int, names: list[str]) -> None:
    strategy = training_strategy(cpu_replicas)
    trained = {name: train(name, strategy) for name in names}
    print(json.dumps({"replicas": strategy.num_replicas_in_sync, "models": trained}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])

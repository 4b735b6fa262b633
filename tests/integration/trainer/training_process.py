"""Trains small models in a process of its own and prints what came out as JSON; run by the tests.

Logical devices and the cluster have to be set before TensorFlow starts, hence a process.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np
import tensorflow as tf

from ctr.components.settings import TrainingConfig
from ctr.components.trainer.fit import TrainingLoop, fit
from ctr.components.trainer.sharding import whole
from ctr.components.trainer.step import Compile
from ctr.components.trainer.strategy import training_strategy
from ctr.models.impression import CANDIDATE_INPUTS, CANDIDATE_ITEM_ID, CONTEXT_INPUTS, INDEX_OF, MODEL_INPUTS, USER_ID
from ctr.models.layers.sharded_table import sharded_tables
from ctr.models.loss_scale import DynamicLossScale
from ctr.models.model_config import ModelConfig
from ctr.models.negatives import StoredNegatives
from ctr.models.optimizers import LazyAdam
from ctr.models.registry import build_model
from ctr.models.samplers.base import Sampler, TrainingWindow
from ctr.models.samplers.frequency import StreamingFrequencies
from ctr.models.samplers.registry import SamplerContext, build_sampler
from ctr.models.samplers.sampler_config import LossConfig, SamplerConfig
from ctr.models.sharded_adam import ShardedAdam

ROWS, BATCH, ITEMS = 150, 33, 11
"""A batch, the last one, which has 18 rows, and a table are no multiples of two."""
STORED = StoredNegatives(uniform=2, same_category=0, contemporaneous=0)
RANDOM = SamplerConfig()
SAMPLERS = {
    "in_batch": SamplerConfig(name="in_batch", negatives=3),
    "streaming_frequency": SamplerConfig.model_validate(
        {"name": "streaming_frequency", "negatives": 3, "frequency": {"buckets": 64}}
    ),
    "mixed": SamplerConfig.model_validate(
        {"name": "mixed", "negatives": 4, "frequencies": "streaming", "frequency": {"buckets": 64}}
    ),
    "hard": SamplerConfig.model_validate(
        {"name": "hard", "negatives": 3, "hard": {"pool": 8, "share": 0.7, "curriculum_steps": 6}}
    ),
}
"""A model trained with a sampler of the batch is named model/sampler; one with its auxiliary loss has a + behind.
model:plain has no statistics of a batch and no draws, model:accumulated likewise, with each batch in two parts;
model:sharded has its tables on all devices together; model:compiled is model:plain that XLA compiles."""


def without_graph_passes(off: bool = True) -> None:
    """Leaves out what TensorFlow does to a graph before its first step, where only a few steps follow."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": off})


def batches(rows: int, batch_size: int) -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    real = np.arange(6)[None, :] < rng.integers(0, 7, rows)[:, None]
    values = {
        name: rng.integers(1, 6, (rows, 1 if name in CONTEXT_INPUTS else 3))
        if name in (*CANDIDATE_INPUTS, *CONTEXT_INPUTS)
        else rng.integers(1, 5, real.shape) * real
        for name in MODEL_INPUTS
    }
    # Of what is declared there are the codes alone.
    for name, index in INDEX_OF.items():
        if name in values:
            values[index] = np.where(values[name] > 0, values[name] + 1, 0)
    values[USER_ID] = np.arange(1, rows + 1)[:, None]
    labels = np.zeros((rows, 3), "float32")
    labels[:, 0] = 1
    # The last batch is partly padding, as the input pipeline makes it.
    missing = -rows % batch_size
    inputs, padded = tf.nest.map_structure(lambda x: np.pad(x, [(0, missing), (0, 0)]), (values, labels))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices((inputs, padded)).batch(batch_size, True).with_options(options)


def window(rows: int) -> TrainingWindow:
    """Of :func:`batches`; nothing is masked."""
    positives = next(iter(batches(rows, rows)))[0][CANDIDATE_ITEM_ID][:, 0].numpy()
    items, counts = np.unique(positives, return_counts=True)
    return TrainingWindow(100, items, counts, np.array([0], np.int64))


def sampler_of(config: SamplerConfig) -> Sampler:
    """For :func:`batches`; to be called in the strategy's scope."""
    return build_sampler(SamplerContext(config, window=window(ROWS), stored=STORED, batch_size=BATCH, seed=1))


def train(name: str, strategy: tf.distribute.Strategy) -> dict[str, object]:
    name, _, how = name.partition(":")
    name, _, sampler_name = name.partition("/")
    name, auxiliary = name.removesuffix("+"), name.endswith("+")
    keras.utils.set_random_seed(1)
    # Each replica draws its own negatives of auxiliary losses, so equality needs none.
    config = ModelConfig.model_validate(
        {
            "name": name,
            "embedding_dim": 4,
            "hidden_units": [4],
            "dien": {"auxiliary_weight": 0.5 * auxiliary},
            "bert4rec": {"cloze_weight": 0.1 * auxiliary},
            "caser": {"events": 4},
            **({"activation": "relu", "item_unknown_rate": 0.0} if how in ("plain", "accumulated", "compiled") else {}),
        }
    )
    with strategy.scope():
        with sharded_tables(how == "sharded"):
            model = build_model(config, ITEMS, 10, history_length=4)
        sampler = sampler_of(SAMPLERS[sampler_name] if sampler_name else RANDOM)
    loss = LossConfig(name="sampled_softmax" if sampler_name else "pointwise")
    compile: Compile = "on" if how == "compiled" else "auto"
    trainer = TrainingLoop(model, strategy, sampler, loss, 1e-2, 1e-3, 1 + (how == "accumulated"), compile)
    data = batches(rows=ROWS, batch_size=BATCH)
    if name == "din":
        epochs = fit(trainer, lambda number: data, data, TrainingConfig(epochs=3, early_stopping_patience=3))
        losses, aucs = [epoch.train_loss for epoch in epochs], [epoch.validation_auc for epoch in epochs]
    else:
        # What validation does with logits does not depend on the model, and tracing it takes a third of the time.
        losses, aucs = [trainer.train_epoch(data)[0] for _ in range(3)], []
    assert trainer.step.compiles == (how == "compiled")
    shards = [(list(shard.shape), shard.device) for shard in trainer.shards]
    if how == "sharded":
        assert isinstance(trainer.optimizer, ShardedAdam)
        moments = [moment for both in trainer.optimizer.moments for moment in both]
        assert [(list(moment.shape), moment.device) for moment in moments[::2]] == shards
        assert [(list(moment.shape), moment.device) for moment in moments[1::2]] == shards
        model = whole(model, build_model(config, ITEMS, 10, history_length=4))
    streams = [m for m in sampler.submodules if isinstance(m, StreamingFrequencies)]
    return {
        "gaps": [values for stream in streams for values in stream.gap.numpy().tolist()],
        "steps": int(sampler.step.numpy()),
        "shards": shards,
        "train_loss": losses,
        "validation_auc": aucs,
        # A softmax does not see a bias of all logits: its gradient is rounding error, which Adam makes steps of.
        "weights": [
            float(np.abs(weight).sum())
            for weight, variable in zip(model.get_weights(), model.weights, strict=True)
            if not (sampler_name and variable.path == "logit/bias")
        ],
    }


def overflow(strategy: tf.distribute.Strategy) -> dict[str, object]:
    """A step of float16 whose gradients the first replica alone cannot hold, between two that all can."""
    with strategy.scope():
        scale = DynamicLossScale()
        weight = keras.Variable(np.ones(2, "float32"), aggregation="mean")
        table = keras.Variable(np.ones((6, 3), "float32"), aggregation="mean")
        optimizer = LazyAdam(0.1, row_decay=0.1)
        optimizer.build([weight, table])

    def step(number: tf.Tensor) -> None:
        context = tf.distribute.get_replica_context()
        assert context is not None
        broken = (number == 1) & (context.replica_id_in_sync_group == 0)
        value = tf.where(broken, float("inf"), 1.0) * scale.scale
        rows = tf.IndexedSlices(tf.ones([2, 3]) * scale.scale, tf.constant([4, 1]), tf.constant([6, 3]))
        scale.apply(optimizer, [tf.fill([2], value), rows], [weight, table])

    @tf.function
    def steps(first: tf.Tensor, last: tf.Tensor) -> None:
        for number in tf.range(first, last):
            strategy.run(step, args=(number,))

    def state() -> list[list[float]]:
        return [np.asarray(variable).ravel().tolist() for variable in [weight, table, *optimizer.variables]]

    states = []
    for number in range(3):
        steps(tf.constant(number), tf.constant(number + 1))
        states.append(state())
    return {"states": states, "scale": float(scale.scale.numpy())}


def main(cpu_replicas: int, names: list[str]) -> None:
    without_graph_passes()
    strategy = training_strategy(cpu_replicas)
    trained = {name: train(name, strategy) for name in names}
    result = {"replicas": strategy.num_replicas_in_sync, "models": trained, "overflow": overflow(strategy)}
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])

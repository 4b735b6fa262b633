"""Which devices train."""

from __future__ import annotations

import os

import tensorflow as tf


def training_strategy(cpu_replicas: int = 1) -> tf.distribute.Strategy:
    """The cheapest one for whatever is there.

    ``TF_CONFIG`` naming several workers gives MultiWorkerMirroredStrategy; several GPUs give MirroredStrategy over
    all of them, one GPU OneDeviceStrategy, which mirrors nothing and still copies batches to the GPU ahead of time; a
    CPU alone gives MirroredStrategy over ``cpu_replicas`` logical devices, or the default strategy for one.

    Args:
      cpu_replicas: logical CPU devices wanted where there is no GPU.

    Raises:
      RuntimeError: if TensorFlow has started with fewer logical CPU devices than asked for.
    """
    if '"worker"' in os.environ.get("TF_CONFIG", ""):
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.OneDeviceStrategy(gpus[0].name)
    if cpu_replicas == 1:
        return tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpu_replicas)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < cpu_replicas:
            raise RuntimeError(
                f"training.cpu_replicas: TensorFlow has already started with fewer than {cpu_replicas} logical CPU "
                "devices; ask for them before anything else uses TensorFlow"
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(cpu_replicas)])

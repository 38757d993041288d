"""Distributes a training over several devices or hosts, each with a share of every batch."""

from __future__ import annotations

import logging
import os
from typing import Any

import tensorflow as tf

from trainer.config.hosts import CLUSTER, EXAMPLE
from trainer.config.training import Distribute
from trainer.errors import TrainerError

_log = logging.getLogger(__name__)


def make_strategy(distribute: Distribute) -> tf.distribute.Strategy | None:
    """Returns the strategy that ``--distribute`` asks for; None for a single device."""
    if distribute == "auto" and os.environ.get(CLUSTER):
        distribute = "multi_worker"
    # Physical devices, since listing logical ones starts TensorFlow, which multi_worker must do itself.
    elif distribute == "auto" and len(tf.config.list_physical_devices("GPU")) > 1:
        distribute = "mirrored"
    if distribute == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        _check_devices(devices)
        strategy = _MirroredStrategy([device.name for device in devices])
    elif distribute == "multi_worker":
        if not os.environ.get(CLUSTER):
            raise TrainerError(
                f"--distribute multi_worker needs the hosts in the variable {CLUSTER}, which is not set. "
                f"Set it, for example to {EXAMPLE}"
            )
        strategy = _MultiWorkerStrategy()
    else:
        return None
    _log.info("distributed: %d replicas, by %s", strategy.num_replicas_in_sync, distribute)
    return strategy


class _KerasStrategy(tf.distribute.Strategy):
    """A strategy in the form that Keras 3 can train with (its issue 20585).

    Keras reduces whole batches, only for their shapes, although replicas may have shares of different sizes,
    and scalars over an axis that they do not have.
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """Does what `tf.distribute.Strategy.reduce` does; of a batch, returns one replica's part."""
        if isinstance(value, tuple | list | dict):
            return tf.nest.map_structure(lambda v: self.experimental_local_results(v)[0], value)
        scalars = [v.shape.rank == 0 for v in self.experimental_local_results(value)]
        return super().reduce(reduce_op, value, axis=None if all(scalars) else axis)


class _MirroredStrategy(_KerasStrategy, tf.distribute.MirroredStrategy):
    """Trains on the devices of one host."""


class _MultiWorkerStrategy(_KerasStrategy, tf.distribute.MultiWorkerMirroredStrategy):
    """Trains on several hosts."""


def _check_devices(devices: list[Any]) -> None:
    if len(devices) < 2:
        raise TrainerError(
            f"--distribute mirrored needs at least 2 devices, found {devices[0].name}: leave it out"
        )
    if devices[0].device_type == "CPU" and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
        # TensorFlow 2.21 fails with "input depth must be evenly divisible by filter depth".
        raise TrainerError(
            "--distribute mirrored on CPU devices fails with oneDNN, which mixes up convolutions: set the "
            "variable TF_ENABLE_ONEDNN_OPTS to 0 before the start"
        )


def has_several_hosts() -> bool:
    """Returns True if the current strategy has several hosts."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)


def check_same_progress(epoch: int) -> None:
    """Checks that all hosts have completed equally many epochs, or they would wait for each other forever."""
    if not has_several_hosts():
        return

    def gather() -> Any:
        return tf.distribute.get_replica_context().all_gather(tf.constant([float(epoch)]), axis=0)

    strategy = tf.distribute.get_strategy()
    epochs = strategy.experimental_local_results(strategy.run(tf.function(gather)))[0].numpy()
    if len(set(epochs.tolist())) > 1:
        raise TrainerError(
            f"the hosts have completed different numbers of epochs, this one {epoch}: --output must be a "
            "folder that all of them share, or a new one"
        )

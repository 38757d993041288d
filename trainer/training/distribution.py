"""Distributes a training over several devices or hosts, each with a share of every batch."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from trainer.config.hosts import CLUSTER, EXAMPLE
from trainer.config.training import Distribute
from trainer.errors import TrainerError

_log = logging.getLogger(__name__)


def make_strategy(distribute: Distribute) -> tf.distribute.Strategy | None:
    """Returns the strategy that ``--distribute`` asks for; None for a single device.

    Raises:
        TrainerError: if there are no devices or hosts for it.
    """
    if distribute == "auto" and os.environ.get(CLUSTER):
        distribute = "multi_worker"
    # Physical devices, since listing logical ones starts TensorFlow, which multi_worker must do itself.
    elif distribute == "auto" and len(tf.config.list_physical_devices("GPU")) > 1:
        distribute = "mirrored"
    if distribute == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        _check_devices(devices)
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
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


class _MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """The strategy in the form that Keras 3 can train with (its issue 20585).

    Keras reduces whole batches, only for their shapes, and scalars over an axis that they do not have.
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """Does what `tf.distribute.Strategy.reduce` does; of a batch, returns one replica's part."""
        if isinstance(value, tuple | list | dict):
            return tf.nest.map_structure(lambda v: self.experimental_local_results(v)[0], value)
        scalars = [v.shape.rank == 0 for v in self.experimental_local_results(value)]
        return super().reduce(reduce_op, value, axis=None if all(scalars) else axis)


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


def distribute_batches(
    read: Callable[[tf.distribute.InputContext | None], tf.data.Dataset],
) -> Any:
    """Returns ``read(None)``; with several hosts, ``read(context)`` on each of them.

    On one host, each device gets its share of batches that are read once.
    """
    if not has_several_hosts():
        return read(None)
    return tf.distribute.get_strategy().distribute_datasets_from_function(read)


def check_same_progress(epoch: int) -> None:
    """Checks that all hosts have completed equally many epochs, or they would wait for each other forever.

    Raises:
        TrainerError: on all hosts, if they have not.
    """
    if not has_several_hosts():
        return

    def sum_over_hosts() -> Any:
        powers = tf.constant([1.0, epoch, epoch**2])
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, powers)

    strategy = tf.distribute.get_strategy()
    sums = strategy.run(tf.function(sum_over_hosts))
    count, total, squares = strategy.experimental_local_results(sums)[0].numpy().tolist()
    if count * squares != total**2:
        raise TrainerError(
            f"the hosts have completed different numbers of epochs, this one {epoch}: --output must be a "
            "folder that all of them share, or a new one"
        )


def scope_of(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager[Any]:
    """Returns the context in which models are made for ``strategy``."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()

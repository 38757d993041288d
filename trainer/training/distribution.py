"""Several devices or several hosts, each with a share of every batch."""

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
    """The strategy that ``--distribute`` asks for; None for a single device.

    Raises:
        TrainerError: when there are no devices or hosts for it.
    """
    if distribute == "auto" and os.environ.get(CLUSTER):
        distribute = "multi_worker"
    # Physical ones, since to ask for logical ones starts TensorFlow, which multi_worker must do itself.
    elif distribute == "auto" and len(tf.config.list_physical_devices("GPU")) > 1:
        distribute = "mirrored"
    if distribute == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        _check_devices(devices)
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    elif distribute == "multi_worker":
        if not os.environ.get(CLUSTER):
            raise TrainerError(
                f"--distribute multi_worker needs the hosts in the variable {CLUSTER}, which is not set: "
                f"set it to the likes of {EXAMPLE}"
            )
        strategy = _MultiWorkerStrategy()
    else:
        return None
    _log.info("distributed: %d replicas, by %s", strategy.num_replicas_in_sync, distribute)
    return strategy


class _MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """The strategy, as Keras 3 must find it to train with it at all (its issue 20585).

    Keras reduces whole batches, only to see their shapes, and scalars over an axis that they do not have.
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """What `tf.distribute.Strategy.reduce` does; one replica's part of a batch."""
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
        # "input depth must be evenly divisible by filter depth", of TensorFlow 2.21.
        raise TrainerError(
            "--distribute mirrored on CPU devices mixes up convolutions in oneDNN: set the variable "
            "TF_ENABLE_ONEDNN_OPTS to 0 before the start"
        )


def has_several_hosts() -> bool:
    """Whether the current strategy is one of several hosts."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)


def shared(read: Callable[[tf.distribute.InputContext | None], tf.data.Dataset]) -> Any:
    """Returns ``read(None)``; with several hosts, ``read(context)`` for each of them.

    On one host, each device gets its share of batches that are read once.
    """
    if not has_several_hosts():
        return read(None)
    strategy = tf.distribute.get_strategy()
    return strategy.distribute_datasets_from_function(read)


def check_agreed(epoch: int) -> None:
    """Checks that all hosts have come equally far, before they wait for each other for ever.

    Raises:
        TrainerError: on all of them, when they have not.
    """
    if not has_several_hosts():
        return

    def summed() -> Any:
        told = tf.constant([1.0, epoch, epoch**2])
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, told)

    strategy = tf.distribute.get_strategy()
    moments = strategy.run(tf.function(summed))
    count, total, squares = strategy.experimental_local_results(moments)[0].numpy().tolist()
    if count * squares != total**2:
        raise TrainerError(
            f"the hosts have not come equally far, this one {epoch} epochs: --output must be a folder that "
            "all of them share, or a new one"
        )


def scope_of(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager[Any]:
    """Where models of ``strategy`` are made."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()

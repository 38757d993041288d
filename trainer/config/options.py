"""The base class of the trainer's options."""

from __future__ import annotations

from tfrecords_schema.options import Options
from trainer.errors import ConfigError


class TrainerOptions(Options):
    """Options whose wrong values are `ConfigError`s. Whole numbers must fit into TensorFlow's int32."""

    error = ConfigError
    int_bits = 31

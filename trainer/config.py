"""`TrainingConfig`: everything a run can be told, checked when it is made.

What a dataset says of itself (shapes, task, classes, statistics) is not here: it comes from its
``dataset_info.json``. Each field is a flag of the same name, and its help is in its metadata.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from tfrecords_schema.spec import SequenceSpec
from trainer.errors import TrainerError

Pooling = Literal["avg", "flatten"]


class ConfigError(TrainerError):
    """An option outside what it may be."""


def option(default: Any, help: str, *, of_images: bool = False) -> Any:
    """A field that is also a flag, with its help; ``of_images`` when it is idle without images."""
    return dataclasses.field(default=default, metadata={"help": help, "of_images": of_images})


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of the network.

    Example: for frames of 48x64, ``filters=(16, 32, 64)`` and ``pooling="flatten"`` give each frame
    6 x 8 x 64 = 3072 features, which the LSTM reads in order.

    Raises:
        ConfigError: when a value is out of range.
    """

    filters: tuple[int, ...] = option(
        (16, 32, 64),
        "filters of each convolution block; each block halves height and width",
        of_images=True,
    )
    stack_frames: int = option(
        2,
        "frames the convolutions see at once, to see motion: each frame with those before it",
        of_images=True,
    )
    batch_norm: bool = option(
        False, "batch normalisation in each convolution block: on or off", of_images=True
    )
    pooling: Pooling = option(  # noqa: RUF009 (a dataclasses.field, like the others)
        "avg",
        "how a frame's feature map becomes a vector: avg forgets where things are; flatten keeps it, "
        "which helps to judge speed, and has more weights",
        of_images=True,
    )
    lstm_units: int = option(64, "units of the LSTM")
    dense_units: int = option(64, "units of the dense layer after the LSTM; 0 for none")
    dropout: float = option(0.2, "share of the LSTM's and the dense layer's outputs dropped")

    def __post_init__(self) -> None:
        if not self.filters or any(not _is_integer(f) or f < 1 for f in self.filters):
            raise ConfigError(
                "filters must be positive whole numbers, as in 16,32,64; "
                f"got {','.join(map(str, self.filters)) or 'none'}"
            )
        if self.pooling not in ("avg", "flatten"):
            raise ConfigError(f"pooling must be avg or flatten, got {self.pooling!r}")
        _check_whole("stack_frames", self.stack_frames, least=1)
        _check_whole("lstm_units", self.lstm_units, least=1)
        _check_whole("dense_units", self.dense_units, least=0)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def check_for(self, spec: SequenceSpec) -> None:
        """Checks that records of ``spec`` have what the options are about.

        Raises:
            ConfigError: when an option of images is set for records that hold none.
        """
        idle = [
            f"--{field.name} {shown(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if field.metadata["of_images"] and getattr(self, field.name) != field.default
        ]
        if idle and spec.image is None:
            raise ConfigError(
                f"the records hold signals only, no images for {', '.join(idle)}: leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a run trains, and the network it trains.

    Example: ``TrainingConfig(epochs=20, model=ModelConfig(pooling="flatten"))``.

    Raises:
        ConfigError: when a value is out of range.
    """

    epochs: int = option(40, "passes over the train split, at most")
    batch_size: int = option(16, "sequences in a step")
    learning_rate: float = option(1e-3, "of Adam")
    patience: int = option(8, "epochs without improvement after which training stops")
    shuffle_buffer: int | None = option(
        None, "sequences shuffled at a time; by default as many as fit in 256 MiB"
    )
    class_weights: bool = option(
        True, "on: rare classes weigh more in the loss, by the counts in dataset_info.json; or off"
    )
    seed: int = option(0, "of the weights, the dropout and the order of the sequences")
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            _check_whole(name, getattr(self, name), least=1)
        if self.shuffle_buffer is not None:
            _check_whole("shuffle_buffer", self.shuffle_buffer, least=1)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(
                f"learning_rate must be above 0, and is mostly 1e-5 to 1e-2; got {self.learning_rate}"
            )
        _check_whole("seed", self.seed, least=0)
        if self.seed >= 2**32:
            raise ConfigError(f"seed must be below 2**32, got {self.seed}")

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types, the model's options under ``"model"``."""
        fields = dataclasses.asdict(self)
        fields["model"]["filters"] = list(self.model.filters)
        return fields


def shown(value: Any) -> str:
    """The value of an option as it is typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_whole(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")

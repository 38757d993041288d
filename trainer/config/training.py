"""`TrainingConfig`: everything a run can be told, checked when it is made.

What a dataset says of itself (shapes, task, classes, statistics) is not here: it comes from its
``dataset_info.json``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from tfrecords_schema.info import DatasetInfo
from trainer.config.model import ModelConfig
from trainer.config.options import (
    ConfigError,
    check_choice,
    check_positive,
    check_whole,
    option,
)
from trainer.config.reading import ReadingConfig

__all__ = ["ModelConfig", "ReadingConfig", "TrainingConfig"]

Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Xla = Literal["auto", "on", "off"]
Caching = Literal["auto", "off"]
Distribute = Literal["auto", "off", "mirrored", "multi_worker"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a run trains, on what, and the network it trains.

    Example: ``TrainingConfig(epochs=20, model=ModelConfig(pooling="flatten"))``.

    Raises:
        ConfigError: when a value is out of range.
    """

    epochs: int = option(40, "passes over the train split, at most")
    batch_size: int = option(16, "sequences in a step")
    learning_rate: float = option(1e-3, "of Adam")
    schedule: Schedule = option(  # noqa: RUF009 (a dataclasses.field, like the others)
        "constant", "the learning rate over the epochs: constant, or falling to 0 as a cosine"
    )
    warmup_epochs: int = option(0, "epochs in which the learning rate first rises from 0")
    clip_norm: float | None = option(
        None,
        "gradients longer than this, all together, are shortened to it; by default they are not",
    )
    head_epochs: int = option(
        0,
        "epochs that train only what follows a pretrained backbone, before its last layers join in",
    )
    fine_tune_learning_rate: float | None = option(
        None, "of Adam once the last layers of the backbone have joined in; by default a tenth"
    )
    patience: int = option(8, "epochs without improvement after which training stops")
    precision: Precision = option(  # noqa: RUF009
        "float32",
        "of the layers: mixed_float16 is faster on GPUs, mixed_bfloat16 on TPUs and late CPUs",
    )
    xla: Xla = option(  # noqa: RUF009
        "auto", "compile each step with XLA: on, off, or auto, where Keras expects it to be faster"
    )
    cache_features: Caching = option(  # noqa: RUF009
        "auto", "auto: compute the output of a frozen backbone once, not in every epoch; or off"
    )
    distribute: Distribute = option(  # noqa: RUF009
        "auto",
        "a share of each batch to each GPU (mirrored) or host (multi_worker, with TF_CONFIG set); auto takes "
        "what there is; or off",
    )
    tensorboard: bool = option(False, "logs for TensorBoard in RUN/tensorboard: on or off")
    class_weights: bool = option(
        True, "on: rare classes weigh more in the loss, by the counts in dataset_info.json; or off"
    )
    checkpoint_minutes: float = option(
        10.0,
        "minutes between the checkpoints that --resume finds within an epoch, on a single host; 0 for none "
        "but at the ends of epochs",
    )
    seed: int = option(
        0, "of the weights, the dropout, the augmentation and the order of the sequences"
    )
    reading: ReadingConfig = dataclasses.field(default_factory=ReadingConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            check_whole(self, name, least=1)
        check_positive(self, "learning_rate", "1e-5 to 1e-2")
        if self.fine_tune_learning_rate is not None:
            check_positive(self, "fine_tune_learning_rate", "1e-6 to 1e-4")
        if self.clip_norm is not None:
            check_positive(self, "clip_norm", "0.5 to 5")
        check_choice(self, "schedule", ("constant", "cosine"))
        check_choice(self, "precision", ("float32", "mixed_float16", "mixed_bfloat16"))
        check_choice(self, "xla", ("auto", "on", "off"))
        check_choice(self, "cache_features", ("auto", "off"))
        check_choice(self, "distribute", ("auto", "off", "mirrored", "multi_worker"))
        check_whole(self, "warmup_epochs", least=0)
        check_whole(self, "head_epochs", least=0)
        self._check_phases()
        if not (math.isfinite(self.checkpoint_minutes) and self.checkpoint_minutes >= 0):
            raise ConfigError(
                f"checkpoint_minutes must be at least 0, got {self.checkpoint_minutes}"
            )
        check_whole(self, "seed", least=0, bits=32)

    def check_for(self, info: DatasetInfo) -> None:
        """Checks that a dataset has what the options are about.

        Raises:
            ConfigError, DatasetError: naming the option.
        """
        self.model.check_for(info.spec)
        self.reading.check_for(info)

    def _check_phases(self) -> None:
        if self.head_epochs >= self.epochs:
            raise ConfigError(
                f"head_epochs must be fewer than all {self.epochs} epochs, got {self.head_epochs}"
            )
        if self.warmup_epochs >= self.epochs - self.head_epochs:
            raise ConfigError(
                f"warmup_epochs must be fewer than the epochs they are part of, got {self.warmup_epochs} of "
                f"{self.epochs - self.head_epochs}"
            )
        if self.head_epochs and not (self.model.pretrained and self.model.trainable_layers):
            raise ConfigError(
                "head_epochs train what follows a pretrained backbone, whose last layers are trained then: "
                "give --weights and --trainable_layers too, or leave it out"
            )
        if self.fine_tune_learning_rate is not None and not self.head_epochs:
            raise ConfigError(
                "fine_tune_learning_rate is for after the --head_epochs: give them, or --learning_rate"
            )

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types; the other configs' options under ``"reading"`` and ``"model"``."""
        return _with_lists(dataclasses.asdict(self))


def _with_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value

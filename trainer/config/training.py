"""`TrainingConfig`: everything that a run can be told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from tfrecords_schema.codec import to_json
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.options import group, option
from trainer.config.model import ModelConfig
from trainer.config.options import TrainerOptions
from trainer.config.reading import ReadingConfig

Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Distribute = Literal["auto", "off", "mirrored", "multi_worker"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(TrainerOptions):
    """Options of a training: its steps, the sequences that it reads, and the network.

    Example: ``TrainingConfig(epochs=20, model=ModelConfig(pooling="flatten"))``.

    Raises:
        ConfigError: if a value is out of range, or two contradict each other.
    """

    epochs: int = option(40, "Passes over the train split, at most", min=1)
    batch_size: int = option(16, "Sequences per step", min=1)
    learning_rate: float = option(
        1e-3,
        "Learning rate",
        above=0,
        expected="a finite number above 0, usually 1e-5 to 1e-2",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = option(
        "adam",
        "Method of gradient descent: adam; adamw, whose --weight_decay is 0.004 by default; sgd, with a "
        "momentum of 0.9",
    )
    weight_decay: float | None = option(
        None,
        "Share of each weight that a step takes away, times the learning rate",
        default_text="0, and 0.004 for adamw",
        min=0,
        below=1,
    )
    loss: Literal["mse", "mae", "huber"] = option(
        "mse",
        "Loss of a regression, in standard deviations of each target: mse, mae, or huber, which is squared "
        "below 1 and absolute above",
    )
    target_weights: int | None = option(
        None,
        "Give rare values of targets more weight in the loss, by the counts of the train split in this many "
        "bins of equal width",
        default_text="all values alike",
        min=2,
    )
    label_smoothing: float = option(
        0.0, "Share of each label that is spread over all classes", min=0, below=1
    )
    freeze_batch_norm: bool = option(
        False, "Leave batch normalisation as it is: neither its weights nor its statistics change"
    )
    schedule: Literal["constant", "cosine"] = option(
        "cosine", "Learning rate over the epochs: constant, or falling to 0 as a cosine"
    )
    warmup_epochs: int = option(0, "Epochs in which the learning rate first rises from 0", min=0)
    clip_norm: float | None = option(
        None,
        "Maximum norm of all gradients together; longer ones are shortened to it",
        default_text="no limit",
        above=0,
        expected="a finite number above 0, usually 0.5 to 5",
    )
    head_epochs: int = option(
        0,
        "Epochs that train only the layers after a pretrained backbone, before --trainable_layers of the "
        "backbone are trained too",
        min=0,
    )
    fine_tune_learning_rate: float | None = option(
        None,
        "Learning rate after --head_epochs",
        default_text="a tenth of --learning_rate",
        above=0,
        expected="a finite number above 0, usually 1e-6 to 1e-4",
    )
    patience: int | None = option(
        None,
        "Keep the epoch with the lowest validation loss, and stop after so many epochs without a lower one",
        default_text="train all epochs and keep the last",
        min=1,
    )
    precision: Precision = option(
        "float32",
        "Precision of the layers. mixed_float16 is faster on GPUs, mixed_bfloat16 on TPUs and recent CPUs",
    )
    xla: Literal["auto", "on", "off"] = option(
        "auto", "Compile each step with XLA; auto leaves it to Keras"
    )
    cache_features: Literal["auto", "off"] = option(
        "auto", "Compute the output of a frozen backbone once instead of in every epoch"
    )
    distribute: Distribute = option(
        "auto",
        "Share each batch between GPUs (mirrored) or hosts (multi_worker, with TF_CONFIG set); auto uses "
        "all that there are",
    )
    tensorboard: bool = option(False, "Write logs for TensorBoard to RUN/tensorboard")
    class_weights: bool = option(
        True, "Give rare classes more weight in the loss, by the counts in dataset_info.json"
    )
    allow_empty_classes: bool = option(
        False, "Train although some classes have no record in the train split"
    )
    checkpoint_minutes: float = option(
        10.0,
        "Minutes between the checkpoints within an epoch that --resume finds, on a single host; 0 saves at "
        "the ends of epochs only",
        min=0,
    )
    progress: Literal["lines", "bar"] = option(
        "lines", "What an epoch shows: a line at its end, with units, or Keras's moving bar"
    )
    folds: int | None = option(
        None,
        "Train once for each part of the groups of train and validation, score each part by the model that "
        "has not seen it, and train a last model on all",
        default_text="the dataset's own splits",
        min=2,
    )
    seeds: int = option(1, "Train with so many seeds, from --seed on, and show the spread", min=1)
    seed: int = option(
        0,
        "Seed of the weights, the dropout, the augmentation and the order of the sequences",
        min=0,
        max=2**32 - 1,
    )
    reading: ReadingConfig = group(ReadingConfig, "reading of sequences")
    model: ModelConfig = group(ModelConfig, "model")

    def check_for(self, info: DatasetInfo) -> None:
        """Checks that a dataset has what the options need; raises `ConfigError` or `DatasetError`."""
        self.model.check_for(info.spec)
        self.reading.check_for(info)
        task = info.spec.label.task
        self.require(
            task == "regression" or self.loss == "mse",
            f"--loss {self.loss} is for targets, and the task is {task}. Leave it out",
        )
        self.require(
            task == "regression" or self.target_weights is None,
            f"--target_weights is for targets, and the task is {task}. Leave it out",
        )
        self.require(
            task != "regression" or not self.label_smoothing,
            "--label_smoothing is for classes, and the task is regression. Leave it out",
        )

    def check_combination(self) -> None:
        """Checks that the phases of the training fit into its epochs, and that they have an effect."""
        self.require(
            self.head_epochs < self.epochs,
            f"--head_epochs must be fewer than all {self.epochs} epochs, got {self.head_epochs}",
        )
        rest = self.epochs - self.head_epochs
        self.require(
            self.warmup_epochs < rest,
            "--warmup_epochs must be fewer than the epochs that they are part of, "
            f"got {self.warmup_epochs} of {rest}",
        )
        self.require(
            not self.head_epochs or self.model.fine_tunes,
            "--head_epochs needs a pretrained backbone whose last layers are trained afterwards. Give "
            "--weights and --trainable_layers too, or leave it out",
        )
        self.require(
            self.fine_tune_learning_rate is None or self.head_epochs > 0,
            "--fine_tune_learning_rate applies after --head_epochs. Give them, or --learning_rate",
        )

        self.require(
            not self.reading.ignore_errors or (self.folds is None and self.seeds == 1),
            "--folds and --seeds compare predictions for the same records, which --ignore_errors may skip. "
            "Leave one out",
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON types, with the other configs under ``"reading"`` and ``"model"``."""
        return json.loads(json.dumps(to_json(self)))

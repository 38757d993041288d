"""`TrainingConfig`: everything a run can be told, checked when it is made.

What a dataset says of itself (shapes, task, classes, statistics) is not here: it comes from its
``dataset_info.json``.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import SequenceSpec
from trainer.options import (
    ConfigError,
    check_choice,
    check_positive,
    check_share,
    check_sizes,
    check_whole,
    option,
    options_of,
    typed,
)
from trainer.reading import Augmentation, parse_augmentation

Pooling = Literal["avg", "flatten"]
Rnn = Literal["lstm", "gru", "convlstm", "none"]
Activation = Literal["tanh", "relu"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Xla = Literal["auto", "on", "off"]
Caching = Literal["auto", "off"]
Distribute = Literal["auto", "off", "mirrored", "multi_worker"]

SMALL = "small"
# The networks of `keras.applications`, which takes seconds to import.
APPLICATIONS = (
    *("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge"),
    *("DenseNet121", "DenseNet169", "DenseNet201"),
    *(f"EfficientNetB{i}" for i in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "L", "M", "S")),
    *("InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small"),
    *("NASNetLarge", "NASNetMobile"),
    *("ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2"),
    *("VGG16", "VGG19", "Xception"),
)
WEIGHT_FILES = (".weights.h5", ".h5")
# What shapes the small backbone, and no other.
_OF_SMALL = ("filters", "convolutions", "stack_frames", "batch_norm")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of the network.

    Example: for frames of 48x64, ``filters=(16, 32, 64)`` and ``pooling="flatten"`` give each frame
    6 x 8 x 64 = 3072 features, which the LSTM reads in order.

    Raises:
        ConfigError: when a value is out of range, or two contradict each other.
    """

    backbone: str = option(
        SMALL,
        "what sees each frame: small, a stack of convolutions; or a network of keras.applications by "
        "name, such as MobileNetV2",
        of_images=True,
        metavar="small|NAME",
    )
    weights: str | None = option(
        None,
        "what the backbone starts from: imagenet (downloaded), none (random), or a file that Keras saved; "
        "by default none for small, imagenet for the others",
        of_images=True,
        metavar="imagenet|none|FILE",
    )
    trainable_layers: int | None = option(
        None,
        "train only the last N layers with weights of the backbone; by default all of one that starts "
        "from random weights, and none of a pretrained one",
        of_images=True,
    )
    filters: tuple[int, ...] = option(
        (16, 32, 64),
        "of small: filters of each block; each block halves height and width",
        of_images=True,
    )
    convolutions: int = option(1, "of small: convolutions in each block, 2 in VGG", of_images=True)
    stack_frames: int | None = option(
        None,
        "of small: frames the convolutions see at once, to see motion: each frame with those before it; "
        "by default 2",
        of_images=True,
    )
    batch_norm: bool = option(
        False, "of small: batch normalisation after each convolution: on or off", of_images=True
    )
    pooling: Pooling = option(  # noqa: RUF009 (a dataclasses.field, like the others)
        "avg",
        "how a frame's feature map becomes a vector: avg forgets where things are; flatten keeps it, "
        "which helps to judge speed, and has more weights",
        of_images=True,
    )
    rnn: Rnn = option(  # noqa: RUF009
        "lstm",
        "what reads the frames in order: lstm, gru, convlstm (convolutions over feature maps), or none "
        "(their average)",
    )
    rnn_units: tuple[int, ...] = option(
        (64,),
        "units of each recurrent layer, the first first (filters, for convlstm)",
        also="lstm_units",
    )
    bidirectional: bool = option(
        False, "recurrent layers read the sequence backwards as well: on or off"
    )
    rnn_activation: Activation = option(  # noqa: RUF009
        "tanh",
        "of the recurrent layers; relu, which tutorials use, may diverge and is slow on GPUs",
    )
    recurrent_dropout: float = option(
        0.0, "share of a recurrent layer's state dropped at each step; slow on GPUs"
    )
    dense_units: tuple[int, ...] = option(
        (64,), "units of each dense layer after the recurrent ones; 0 for none"
    )
    dropout: float = option(
        0.2, "share of the outputs of each recurrent and each dense layer dropped"
    )

    def __post_init__(self) -> None:
        names = {name.lower(): name for name in (SMALL, *APPLICATIONS)}
        if str(self.backbone).lower() not in names:
            close = difflib.get_close_matches(str(self.backbone).lower(), names, n=3)
            likely = [names[name] for name in close] or [*APPLICATIONS[::8], "..."]
            raise ConfigError(
                f"backbone must be {SMALL} or a network of keras.applications, such as "
                f"{', '.join(likely)}; got {self.backbone!r}"
            )
        object.__setattr__(self, "backbone", names[self.backbone.lower()])
        if self.trainable_layers is not None:
            check_whole(self, "trainable_layers", least=0)
        if self.stack_frames is not None:
            check_whole(self, "stack_frames", least=1)
        check_whole(self, "convolutions", least=1)
        check_sizes(self, "filters", empty=False)
        check_sizes(self, "rnn_units", empty=False)
        check_sizes(self, "dense_units", empty=True)
        check_choice(self, "pooling", ("avg", "flatten"))
        check_choice(self, "rnn", ("lstm", "gru", "convlstm", "none"))
        check_choice(self, "rnn_activation", ("tanh", "relu"))
        check_share(self, "dropout")
        check_share(self, "recurrent_dropout")
        self._check_weights()
        self._check_idle()

    @property
    def pretrained(self) -> bool:
        """Whether the backbone starts from weights that were learned before."""
        if self.weights is None:
            return self.backbone != SMALL
        return self.weights != "none"

    @property
    def frames_at_once(self) -> int:
        """How many frames the convolutions see at once."""
        return self.stack_frames or (2 if self.backbone == SMALL else 1)

    def check_for(self, spec: SequenceSpec) -> None:
        """Checks that records of ``spec`` have what the options are about.

        Raises:
            ConfigError: when an option of images is set for records that hold none.
        """
        if spec.image is not None:
            return
        idle = [field.name for field in options_of(self) if field.metadata["of_images"]]
        if changed := self._changed(idle):
            raise ConfigError(
                f"the records hold signals only, no images for {typed(self, changed)}: leave it out"
            )
        if self.rnn == "convlstm":
            raise ConfigError(
                "the records hold signals only, no images for --rnn convlstm: take lstm or gru"
            )

    def _check_weights(self) -> None:
        if self.weights in (None, "none"):
            return
        if self.weights == "imagenet":
            if self.backbone == SMALL:
                raise ConfigError(
                    "there are no imagenet weights of the small backbone: give --backbone, or a file"
                )
            return
        if not Path(self.weights or "").is_file():
            raise ConfigError(
                f"weights must be imagenet, none or a file that exists, got {self.weights!r}"
            )
        if not str(self.weights).endswith(WEIGHT_FILES):
            raise ConfigError(
                f"weights must be a file that Keras saved, ending in {' or '.join(WEIGHT_FILES)}; "
                f"got {self.weights!r}"
            )

    def _check_idle(self) -> None:
        """Refuses options that would change nothing."""
        if self.backbone != SMALL and (changed := self._changed(_OF_SMALL)):
            raise ConfigError(
                f"{typed(self, changed)} shapes the small backbone, not {self.backbone}: leave it out"
            )
        if self.rnn == "none":
            of_rnn = ("rnn_units", "bidirectional", "rnn_activation", "recurrent_dropout")
            if changed := self._changed(of_rnn):
                raise ConfigError(
                    f"{typed(self, changed)} shapes recurrent layers, and --rnn is none: leave one out"
                )

    def _changed(self, names: Any) -> list[str]:
        defaults = {field.name: field.default for field in options_of(self)}
        return [name for name in names if getattr(self, name) != defaults[name]]


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
    shuffle_buffer: int | None = option(
        None, "sequences shuffled at a time; by default as many as fit in 256 MiB"
    )
    class_weights: bool = option(
        True, "on: rare classes weigh more in the loss, by the counts in dataset_info.json; or off"
    )
    balance_classes: bool = option(
        False,
        "on: each epoch has as many sequences of each class as of any other, instead of class weights",
    )
    augment: str | None = option(
        None,
        "random changes of the sequences trained on, of crop, flip, brightness, contrast, saturation, hue, "
        "jitter and reverse, as in crop=0.7,flip=0.5,hue=0.02",
        metavar="NAME=VALUE,...",
    )
    mirrored_classes: str | None = option(
        None,
        "pairs of classes that a flip turns into each other, as in left=right",
        metavar="CLASS=CLASS,...",
    )
    cache_frames: str | None = option(
        None,
        "decode each frame once, not in every epoch, and keep them: memory, or a folder for files that later "
        "runs find; the log says how much room they take",
        metavar="memory|FOLDER",
    )
    seed: int = option(
        0, "of the weights, the dropout, the augmentation and the order of the sequences"
    )
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            check_whole(self, name, least=1)
        if self.shuffle_buffer is not None:
            check_whole(self, "shuffle_buffer", least=1)
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
        augmentation = self.augmentation
        if self.mirrored_classes and not (augmentation and augmentation.flip):
            raise ConfigError("mirrored_classes are for a flip: give --augment flip=0.5 too")
        check_whole(self, "seed", least=0)
        if self.seed >= 2**32:
            raise ConfigError(f"seed must be below 2**32, got {self.seed}")

    @property
    def augmentation(self) -> Augmentation | None:
        """What `augment` and `mirrored_classes` ask for."""
        if not self.augment:
            return None
        return parse_augmentation(self.augment, self.mirrored_classes or "")

    def check_for(self, info: DatasetInfo) -> None:
        """Checks that a dataset has what the options are about.

        Raises:
            ConfigError, DatasetError: naming the option.
        """
        self.model.check_for(info.spec)
        if self.augmentation is not None:
            self.augmentation.check_for(info)
        if self.cache_frames is not None and info.spec.image is None:
            raise ConfigError(
                "the records hold signals only, no images for --cache_frames: leave it out"
            )
        label = info.spec.label
        if self.balance_classes and (label.task != "classification" or label.per_frame):
            raise ConfigError(
                f"balance_classes is for one class a sequence, got task {label.task}"
                f"{' by frame' if label.per_frame else ''}: leave it out"
            )

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
        """A dict of plain JSON types, the model's options under ``"model"``."""
        return _with_lists(dataclasses.asdict(self))


def _with_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value

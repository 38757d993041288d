"""`ModelConfig`: the shape of the network, checked when it is made."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tfrecords_schema.spec import SequenceSpec
from trainer.config.options import (
    ConfigError,
    check_choice,
    check_share,
    check_sizes,
    check_whole,
    option,
    options_of,
    typed,
)

Pooling = Literal["avg", "flatten"]
Rnn = Literal["lstm", "gru", "convlstm", "none"]
Activation = Literal["tanh", "relu"]

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

"""`ModelConfig`: the shape of the network."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfrecords_schema.options import option
from tfrecords_schema.spec import SequenceSpec
from trainer.config.options import TrainerOptions
from trainer.errors import ConfigError

SMALL = "small"
# Listed here because importing `keras.applications` takes seconds.
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
# Options that only the small backbone has, that only recurrent layers have, and that need images.
_SMALL_OPTIONS = ("filters", "convolutions", "stack_frames", "batch_norm")
_RNN_OPTIONS = ("rnn_units", "bidirectional", "rnn_activation", "recurrent_dropout")
_IMAGE_OPTIONS = ("backbone", "weights", "trainable_layers", *_SMALL_OPTIONS, "pooling")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(TrainerOptions):
    """The shape of the network.

    Example: for frames of 48x64, ``filters=(16, 32, 64)`` and ``pooling="flatten"`` give each frame
    6 x 8 x 64 = 3072 features, which the LSTM reads in order.

    Raises:
        ConfigError: if a value is out of range, or two contradict each other.
    """

    backbone: str = option(
        SMALL,
        "Network that each frame passes through: small, a stack of convolutions; or a network of "
        "keras.applications by name, such as MobileNetV2",
        metavar="small|NAME",
    )
    weights: str | None = option(
        None,
        "Initial weights of the backbone: imagenet (downloaded), none (random), or a file that Keras saved",
        default_text="none for small, imagenet for others",
        metavar="imagenet|none|FILE",
    )
    trainable_layers: int | None = option(
        None,
        "Train only the last N layers of the backbone that have weights",
        default_text="all layers with random weights, and no pretrained ones",
        min=0,
    )
    filters: tuple[int, ...] = option(
        (16, 32, 64),
        "Filters in each block of the small backbone; each block halves height and width",
        min=1,
    )
    convolutions: int = option(
        1, "Convolutions in each block of the small backbone; VGG has 2", min=1
    )
    stack_frames: int | None = option(
        None,
        "Consecutive frames that the small backbone sees at once, to see motion",
        default_text="2",
        min=1,
    )
    batch_norm: bool = option(
        False, "Normalise batches after each convolution of the small backbone"
    )
    pooling: Literal["avg", "flatten"] = option(
        "avg",
        "How the feature map of a frame becomes a vector. avg: averaged, without places; flatten: with "
        "places, which helps to judge speed and has more weights",
    )
    rnn: Literal["lstm", "gru", "convlstm", "none"] = option(
        "lstm",
        "Layers that read the frames in order: lstm, gru, convlstm (convolutions over feature maps), or none "
        "(the average of the frames)",
    )
    rnn_units: tuple[int, ...] = option(
        (64,),
        "Units of each recurrent layer in order (filters, for convlstm)",
        also="lstm_units",
        min=1,
    )
    bidirectional: bool = option(
        False, "Let the recurrent layers read the sequence backwards as well"
    )
    rnn_activation: Literal["tanh", "relu"] = option(
        "tanh",
        "Activation of the recurrent layers. relu, which tutorials use, may diverge and is slow on GPUs",
    )
    recurrent_dropout: float = option(
        0.0,
        "Share of a recurrent layer's state that is dropped at each step; slow on GPUs",
        min=0,
        below=1,
    )
    dense_units: tuple[int, ...] = option(
        (64,),
        "Units of each dense layer after the recurrent ones; 0 for no dense layers",
        min=1,
        may_be_empty=True,
    )
    dropout: float = option(
        0.2,
        "Share of the outputs of each recurrent and each dense layer that is dropped",
        min=0,
        below=1,
    )

    def check_combination(self) -> None:
        """Checks the names of networks and weights, and that every option has an effect."""
        names = {name.lower(): name for name in (SMALL, *APPLICATIONS)}
        if self.backbone.lower() not in names:
            close = difflib.get_close_matches(self.backbone.lower(), names, n=3)
            likely = [names[name] for name in close] or [*APPLICATIONS[::8], "..."]
            raise ConfigError(
                f"--backbone must be {SMALL} or a network of keras.applications, such as "
                f"{', '.join(likely)}; got {self.backbone!r}"
            )
        object.__setattr__(self, "backbone", names[self.backbone.lower()])
        weights = self.weights
        self.require(
            weights != "imagenet" or self.backbone != SMALL,
            "there are no imagenet weights of the small backbone. Give --backbone, or a file",
        )
        if weights is not None and weights not in ("imagenet", "none"):
            self.require(
                Path(weights).is_file(),
                f"--weights must be imagenet, none or a file that exists, got {weights!r}",
            )
            self.require(
                weights.endswith(WEIGHT_FILES),
                f"--weights must be a file that Keras saved, ending in {' or '.join(WEIGHT_FILES)}; "
                f"got {weights!r}",
            )
        if self.backbone != SMALL and (changed := self.changed(_SMALL_OPTIONS)):
            raise ConfigError(
                f"{self.typed(changed)} shapes the small backbone, not {self.backbone}. Leave it out"
            )
        if self.rnn == "none" and (changed := self.changed(_RNN_OPTIONS)):
            raise ConfigError(
                f"{self.typed(changed)} sets recurrent layers, which --rnn none switches off. Leave one "
                "of them out"
            )

    @property
    def pretrained(self) -> bool:
        """True if the backbone starts from learned weights."""
        if self.weights is None:
            return self.backbone != SMALL
        return self.weights != "none"

    @property
    def frames_at_once(self) -> int:
        """Number of frames that the convolutions see at once."""
        return self.stack_frames or (2 if self.backbone == SMALL else 1)

    def check_for(self, spec: SequenceSpec) -> None:
        """Checks that records of ``spec`` have images if an option needs them."""
        if spec.image is not None:
            return
        if changed := self.changed(_IMAGE_OPTIONS):
            raise ConfigError(
                f"the records hold signals only, no images for {self.typed(changed)}. Leave it out"
            )
        self.require(
            self.rnn != "convlstm",
            "the records hold signals only, no images for --rnn convlstm. Take lstm or gru",
        )

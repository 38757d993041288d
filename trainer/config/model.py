"""`ModelConfig`: the shape of the network."""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfrecords_schema.options import option
from tfrecords_schema.spec import LabelSpec, SequenceSpec
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
_SMALL_OPTIONS = (
    *("filters", "convolutions", "strides", "conv_padding", "pool_size"),
    *("stack_frames", "batch_norm"),
)
_RNN_OPTIONS = ("rnn_units", "bidirectional")
_STATE_OPTIONS = ("rnn_activation", "recurrent_dropout")  # of the decoder, too
_STEP_OPTIONS = (
    *(*_RNN_OPTIONS, *_STATE_OPTIONS, "over_time"),
    *("step_dense_units", "decoder_units", "target_replication"),
)
_TRAINED_PART = ("trainable_layers", "trainable_from")
_IMAGE_OPTIONS = (
    *("backbone", "weights", "frame_input", *_TRAINED_PART, *_SMALL_OPTIONS, "pooling"),
)
_FORECAST = re.compile(r"(.+)@([+-]?\d+(?:\.\d+)?)s?")  # speed@0.5: the speed in half a second


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
        "Train only the last N layers of the backbone, counted as Keras lists them, with pooling and "
        "activations",
        default_text="all layers with random weights, and no pretrained ones",
        min=0,
    )
    trainable_from: str | None = option(
        None,
        "Train only this layer of the backbone and those after it, such as block5_conv1 of VGG16",
        default_text="as --trainable_layers",
        metavar="LAYER",
    )
    filters: tuple[int, ...] = option(
        (16, 32, 64),
        "Filters in each block of the small backbone, which ends with max pooling",
        min=1,
    )
    convolutions: int = option(
        1, "Convolutions in each block of the small backbone; VGG has 2", min=1
    )
    kernel_size: int = option(
        3,
        "Size of the convolutions of the small backbone, --rnn convlstm and --signal_filters",
        min=1,
    )
    strides: int = option(1, "Stride of each convolution of the small backbone", min=1)
    conv_padding: Literal["same", "valid"] = option(
        "same",
        "Edges in the convolutions of the small backbone. same: padded with 0, which keeps the size; valid: "
        "not padded",
    )
    pool_size: int = option(
        2, "Factor by which each block of the small backbone pools; 1 for no pooling", min=1
    )
    frame_input: Literal["difference", "stack", "frame"] | None = option(
        None,
        "What the network sees of each frame. difference: the frame and its change from the one before, for "
        "pretrained backbones that of its features; stack: --stack_frames frames at once; frame: it alone",
        default_text="stack with --stack_frames, difference otherwise",
    )
    stack_frames: int | None = option(
        None,
        "Consecutive frames that the small backbone sees at once",
        default_text="2 with --frame_input stack",
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
    signal_filters: tuple[int, ...] = option(
        (),
        "Filters of each convolution over time (Conv1D) that the signals pass before the recurrent layers",
        default_text="none",
        min=1,
        may_be_empty=True,
    )
    rnn: Literal["simple", "lstm", "gru", "convlstm", "none"] | None = option(
        None,
        "Layers that read the frames in order: simple (SimpleRNN), lstm, gru, convlstm (convolutions over "
        "feature maps), or none",
        default_text="none for targets of whole sequences, if the small backbone sees differences and no "
        "option or signal is about steps; else lstm",
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
    step_dense_units: tuple[int, ...] = option(
        (),
        "Units of each dense layer that is applied at every step, before --over_time",
        default_text="none",
        min=1,
        may_be_empty=True,
    )
    over_time: Literal["first", "last", "mean", "max", "flatten", "attention"] | None = option(
        None,
        "How the steps become one vector: the first or the last step, their mean, maximum or sum weighted by "
        "attention, or all of them (flatten)",
        default_text="last after recurrent layers, mean without",
    )
    decoder_units: tuple[int, ...] = option(
        (),
        "Units of each recurrent layer of a decoder, which writes the labels by frame, or targets such as "
        "speed@0.5 and speed@1, from one vector step by step",
        default_text="none",
        min=1,
        may_be_empty=True,
    )
    target_replication: float = option(
        0.0,
        "Share of the mean loss of all steps in the loss, beside that of the last step, for one label per "
        "sequence",
        min=0,
        below=1,
    )
    dense_units: tuple[int, ...] = option(
        (64,),
        "Units of each dense layer after the recurrent ones; 0 for no dense layers",
        min=1,
        may_be_empty=True,
    )
    l2: float = option(
        0.0, "L2 penalty of the kernels of all layers but those of keras.applications", min=0
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
        has_kernels = self.rnn == "convlstm" or bool(self.signal_filters)
        shaping = _SMALL_OPTIONS if has_kernels else (*_SMALL_OPTIONS, "kernel_size")
        if self.backbone != SMALL and (changed := self.changed(shaping)):
            raise ConfigError(
                f"{self.typed(changed)} shapes the small backbone, not {self.backbone}. Leave it out"
            )
        self.require(
            self.frame_input in (None, "stack") or self.stack_frames in (None, 1),
            f"--stack_frames {self.stack_frames} needs --frame_input stack, and it is {self.frame_input}. "
            "Leave one of them out",
        )
        self.require(
            self.frame_input != "stack" or self.backbone == SMALL,
            f"--frame_input stack is for the small backbone, and {self.backbone} takes single frames. Give "
            "--frame_input difference or frame",
        )
        recurrent = _RNN_OPTIONS if self.decoder_units else (*_RNN_OPTIONS, *_STATE_OPTIONS)
        if self.rnn == "none" and (changed := self.changed(recurrent)):
            raise ConfigError(
                f"{self.typed(changed)} sets recurrent layers, which --rnn none switches off. Leave one "
                "of them out"
            )
        self.require(
            None in (self.trainable_layers, self.trainable_from),
            f"{self.typed(_TRAINED_PART)} both say which layers are trained. Leave one of them out",
        )
        self.require(
            not self.target_replication or (self.steps_become == "last" and not self.decoder_units),
            "--target_replication is for networks that answer at the last step. Leave it, or --over_time and "
            "--decoder_units, out",
        )

    @property
    def pretrained(self) -> bool:
        """True if the backbone starts from learned weights."""
        if self.weights is None:
            return self.backbone != SMALL
        return self.weights != "none"

    @property
    def sees_differences(self) -> bool:
        """True if the network sees changes from frame to frame."""
        return self.frame_input == "difference" or not (self.frame_input or self.stack_frames)

    @property
    def frames_at_once(self) -> int:
        """Number of frames that the convolutions see at once."""
        return self.stack_frames or (2 if self.frame_input == "stack" else 1)

    def channels(self, of_frame: int) -> int:
        """Returns the number of channels that the backbone sees."""
        with_change = self.backbone == SMALL and self.sees_differences
        return of_frame + 1 if with_change else of_frame * self.frames_at_once

    def chosen_for(self, spec: SequenceSpec) -> ModelConfig:
        """Returns these options with a value of ``rnn``, for records of ``spec``."""
        if self.rnn is not None:
            return self
        is_mean = spec.image is not None and not spec.signals and not spec.label.per_frame
        is_mean &= spec.label.task == "regression" and self.backbone == SMALL
        is_mean &= self.sees_differences and not self.changed(_STEP_OPTIONS)
        return dataclasses.replace(self, rnn="none" if is_mean else "lstm")

    @property
    def fine_tunes(self) -> bool:
        """True if the backbone is pretrained and some of it is trained."""
        return self.pretrained and bool(self.trainable_layers or self.trainable_from)

    @property
    def steps_become(self) -> str:
        """The value of ``over_time``, or its default."""
        return self.over_time or ("mean" if self.rnn == "none" else "last")

    def check_for(self, spec: SequenceSpec) -> None:
        """Checks that records of ``spec`` have what the options need, and that the options have an effect."""
        self.require(
            not self.signal_filters or bool(spec.signals),
            "the records hold no signals for --signal_filters. Leave it out",
        )
        if self.decoder_units:
            forecast_steps(spec.label)
        elif spec.label.per_frame:
            names = ("over_time", "step_dense_units", "target_replication")
            if changed := self.changed(names):
                raise ConfigError(
                    f"each frame has a label, so that the steps stay apart: {self.typed(changed)} has no "
                    "effect. Leave it out, or give --decoder_units (--dense_units applies at every step)"
                )
        if spec.image is not None:
            return
        kernels = () if self.signal_filters else ("kernel_size",)
        if changed := self.changed((*_IMAGE_OPTIONS, *kernels)):
            raise ConfigError(
                f"the records hold signals only, no images for {self.typed(changed)}. Leave it out"
            )
        self.require(
            self.rnn != "convlstm",
            "the records hold signals only, no images for --rnn convlstm. Take lstm or gru",
        )


def forecast_steps(label: LabelSpec) -> list[list[int]] | None:
    """Returns the indices of the targets of each step of a decoder; None for labels by frame.

    Targets are named ``NAME@SECONDS``. Those of ``speed@1, yaw@1, speed@0.5, yaw@0.5`` are
    ``[[2, 3], [0, 1]]``: steps are in order of time. Raises `ConfigError` if the labels are no sequence.
    """
    if label.per_frame:
        return None
    found = [_FORECAST.fullmatch(name) for name in label.target_names]
    by_time: dict[float, dict[str, int]] = {}
    for i, match in enumerate(found):
        if match is not None:
            by_time.setdefault(float(match[2]), {})[match[1]] = i
    steps = [by_time[time] for time in sorted(by_time)]
    if None in found or not steps or any(step.keys() != steps[0].keys() for step in steps):
        raise ConfigError(
            "--decoder_units writes a sequence: expected labels by frame, or targets named NAME@SECONDS with "
            f"the same names at each time, such as speed@0.5,speed@1; got "
            f"{', '.join(label.target_names) or f'one {label.task} label per sequence'}. Leave it out"
        )
    return [[step[name] for name in steps[0]] for step in steps]

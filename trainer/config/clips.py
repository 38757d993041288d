"""How sequences are read beyond what records hold: fewer frames, another size, augmentation.

Plain options that check themselves, and the spec of what comes out. No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import SequenceSpec
from trainer.config.dataset import DatasetError
from trainer.config.options import ConfigError, check_whole

Place = Literal["random", "first", "center", "last"]

_PLACES = ("random", "first", "center", "last")


@dataclass(frozen=True, kw_only=True)
class Clips:
    """A part of each sequence, chosen before anything is decoded.

    Example: ``Clips(num_frames=8, frame_step=2)`` takes 8 frames that span 15, from somewhere in a sequence
    of 16 or more, another place each time.

    Attributes:
        num_frames: frames of a clip.
        frame_step: from one of its frames to the next; 1 takes them as they come.
        at: where it lies: ``random``, ``first``, ``center`` or ``last``; or a number of clips, spread evenly
            from first to last, that each sequence gives one after the other. Clips lie before the padding
            where they fit.

    Raises:
        ConfigError: when a value is out of range.
    """

    num_frames: int
    frame_step: int = 1
    at: Place | int = "random"

    def __post_init__(self) -> None:
        check_whole(self, "num_frames", least=1)
        check_whole(self, "frame_step", least=1)
        if isinstance(self.at, int) and not isinstance(self.at, bool):
            check_whole(self, "at", least=1)
        elif self.at not in _PLACES:
            raise ConfigError(
                f"at must be {', '.join(_PLACES)} or a number of clips, got {self.at!r}"
            )

    @property
    def span(self) -> int:
        """Frames of the sequence from the clip's first to its last."""
        return (self.num_frames - 1) * self.frame_step + 1

    @property
    def count(self) -> int:
        """Clips a sequence."""
        return self.at if isinstance(self.at, int) else 1


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes, the same for all frames of a sequence.

    Colours change by one linear map of RGB a sequence: contrast about mid gray, saturation about the
    luma, hue as a rotation of the colour plane.

    Attributes:
        crop: the least share of a frame's area that is cut out and resized to the frame's size; 1 for none.
            It keeps the frame's proportions.
        flip: how likely a sequence is mirrored left to right, with the signs of what `DatasetInfo.mirrored`
            names, and the classes of ``mirrored_classes``.
        brightness: the most that is added or taken, as a share of white.
        contrast, saturation: the most by which they are multiplied, or divided: 0.2 for 1 / 1.2 to 1.2.
        hue: the most by which it turns, as a share of the whole circle.
        jitter: the most frames by which a frame is taken earlier or later, in order.
        reverse: how likely a sequence runs backwards, where no label or signal is a measurement.
        mirrored_classes: pairs of classes that a flip turns into each other: ``(("left", "right"),)``.

    Raises:
        ConfigError: when a value is out of range.
    """

    crop: float = 1.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: int = 0
    reverse: float = 0.0
    mirrored_classes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= most):
                raise ConfigError(f"{name} must be 0 to {most:g}, got {value}")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"crop must be above 0 and at most 1, got {self.crop}")
        check_whole(self, "jitter", least=0)
        named = [name for pair in self.mirrored_classes for name in pair]
        if len(set(named)) != len(named):
            raise ConfigError(f"a class mirrors one other, and each is named once; got {named}")

    @property
    def recolours(self) -> bool:
        """Whether colours change."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    def check_for(self, info: DatasetInfo) -> None:
        """Checks that it makes sense for a dataset.

        Raises:
            ConfigError: for changes of images or colours that records do not have.
            DatasetError: for a flip where nobody said what changes its sign, and for a reversal of what is
                measured.
        """
        spec = info.spec
        of_images = [name for name in _OF_IMAGES if getattr(self, name) != _default(name)]
        if of_images and spec.image is None:
            raise ConfigError(
                f"the records hold no images for {', '.join(of_images)}: leave it out"
            )
        if spec.image is not None and spec.image.channels == 1 and (self.saturation or self.hue):
            raise ConfigError("gray frames have neither saturation nor hue: leave them out")
        if unknown := {n for p in self.mirrored_classes for n in p} - set(spec.label.class_names):
            raise ConfigError(
                f"mirrored_classes must name classes ({', '.join(spec.label.class_names) or 'none'}), "
                f"got {', '.join(sorted(unknown))}"
            )
        if self.flip and spec.value_names and info.mirrored is None:
            raise DatasetError(
                "a flip changes the sign of some targets and signals, and the dataset does not say of which: "
                f"expected it to say for {', '.join(spec.value_names)}; build it with --mirrored_columns "
                "NAMES, or none, or leave flip out"
            )
        if self.reverse and spec.value_names:
            raise DatasetError(
                f"a sequence that runs backwards has other {', '.join(spec.value_names)}: leave reverse out"
            )


_MOST = {"flip": 1, "brightness": 1, "contrast": 10, "saturation": 10, "hue": 0.5, "reverse": 1}
_OF_IMAGES = ("crop", "flip", "brightness", "contrast", "saturation", "hue")


def _default(name: str) -> object:
    return {field.name: field.default for field in dataclasses.fields(Augmentation)}[name]


def parse_augmentation(text: str, mirrored_classes: str = "") -> Augmentation:
    """What ``--augment crop=0.7,flip=0.5`` and ``--mirrored_classes left=right`` ask for.

    Raises:
        ConfigError: for anything else.
    """
    pairs = tuple(_pairs("mirrored_classes", "left=right", mirrored_classes))
    names = [f.name for f in dataclasses.fields(Augmentation) if f.name != "mirrored_classes"]
    values: dict[str, float] = {}
    for name, value in _pairs("augment", "crop=0.7,flip=0.5", text):
        if name not in names:
            raise ConfigError(f"augment must be of {', '.join(names)}, got {name!r}")
        try:
            values[name] = int(value) if name == "jitter" else float(value)
        except ValueError:
            kind = "a whole number" if name == "jitter" else "a number"
            raise ConfigError(f"augment {name} must be {kind}, got {value!r}") from None
    return Augmentation(**values, mirrored_classes=pairs)  # type: ignore[arg-type]


def _pairs(option: str, example: str, text: str) -> list[tuple[str, str]]:
    pairs = []
    for part in text.split(",") if text else ():
        name, equals, value = (word.strip() for word in part.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"{option} must be like {example}, got {text!r}")
        pairs.append((name, value))
    if len(dict(pairs)) != len(pairs):
        raise ConfigError(f"{option} must name each once, got {text!r}")
    return pairs


def read_spec(
    spec: SequenceSpec, clips: Clips | None = None, image_size: tuple[int, int] | None = None
) -> SequenceSpec:
    """The spec of sequences as they are read: of clips, and of frames of another size.

    Raises:
        ConfigError: when records are shorter than a clip, or have no images to resize.
    """
    if clips is not None:
        if clips.span > spec.num_frames:
            raise ConfigError(
                f"the records hold {spec.num_frames} frames, and num_frames {clips.num_frames} with "
                f"frame_step {clips.frame_step} needs {clips.span}: lower one of them"
            )
        rate = None if spec.frame_rate is None else spec.frame_rate / clips.frame_step
        spec = dataclasses.replace(spec, num_frames=clips.num_frames, frame_rate=rate)
    if image_size is not None:
        if spec.image is None:
            raise ConfigError("the records hold no images to resize: leave image_size out")
        height, width = image_size
        if min(height, width) < 1:
            raise ConfigError(f"image_size must be positive, got {height}x{width}")
        spec = dataclasses.replace(
            spec, image=dataclasses.replace(spec.image, height=height, width=width)
        )
    return spec

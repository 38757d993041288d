"""Changes made to sequences while they are read: fewer frames, another size, augmentation."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tfrecords_schema.clip_positions import MAX_CLIPS, clip_span
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.options import REQUIRED, make_options, option, options_of
from tfrecords_schema.spec import SequenceSpec
from trainer.config.dataset import DatasetError
from trainer.config.mirrors import find_mirrored
from trainer.config.options import TrainerOptions
from trainer.errors import ConfigError

Place = Literal["random", "first", "center", "last"]

_MAX_NAMED = 6
# Names of values that are the same in a mirror, and words of classes that are not.
_SIDELESS = frozenset({"speed", "ground_speed", "vehicle_speed"})
_SIDED = re.compile(
    r"(?<![a-z])(?:east|west|port|starboard|links|rechts|gauche|droite|izquierd[ao]|derech[ao])(?![a-z])"
    r"|^.{1,2}$|(?<![^\W_])[^\W_](?![^\W_])"  # a letter or digit: no word tells what it means
)


@dataclass(frozen=True, kw_only=True)
class Clips(TrainerOptions):
    """A part of each sequence, chosen before anything is decoded.

    Example: ``Clips(num_frames=8, frame_step=2)`` takes 8 frames that span 15, from a random place in a
    sequence of 16 or more, another place each time.

    Attributes:
        at: place of the clip, or a number of clips, spread evenly from first to last, that each sequence
            gives one after the other. Clips lie before the padding if they fit.

    Raises:
        ConfigError: if a value is out of range.
    """

    dashes = ""

    num_frames: int = option(REQUIRED, "Frames per clip", min=1)
    frame_step: int = option(1, "Frames from one frame of the clip to the next", min=1)
    at: Place | int = "random"

    def check_combination(self) -> None:
        """Checks ``at``: the name of a place in the sequence, or a number of clips."""
        places = get_args(Place)
        if isinstance(self.at, bool) or not isinstance(self.at, int):
            message = f"at must be {', '.join(places)} or a number of clips, got {self.at!r}"
            self.require(self.at in places, message)
        else:
            message = f"at must be from 1 to {MAX_CLIPS} clips, got {self.at}"
            self.require(1 <= self.at <= MAX_CLIPS, message)

    @property
    def span(self) -> int:
        """Frames of the sequence from the clip's first to its last."""
        return clip_span(self.num_frames, self.frame_step)

    @property
    def count(self) -> int:
        """Clips per sequence."""
        return self.at if isinstance(self.at, int) else 1


@dataclass(frozen=True, kw_only=True)
class Augmentation(TrainerOptions):
    """Random changes, the same for all frames of a sequence.

    Colours change by one linear map of RGB per sequence: contrast about mid gray, saturation about the
    luma, hue as a rotation of the colour plane.

    Attributes:
        mirrored_classes: pairs of classes that a flip exchanges: ``(("left", "right"),)``. A class that is
            paired with itself keeps its name, and so do classes that are not named. ``()`` says that a flip
            changes no class; None, that nobody has said so, and classes such as ``left`` are refused.

    Raises:
        ConfigError: if a value is out of range.
    """

    dashes = ""

    crop: float = option(
        1.0,
        "Minimum share of a frame that is cut out and resized, in its proportions",
        above=0,
        max=1,
    )
    flip: float = option(
        0.0, "Probability of mirroring, with the signs of `DatasetInfo.mirrored`", min=0, max=1
    )
    brightness: float = option(0.0, "Maximum change, as a share of white", min=0, max=1)
    contrast: float = option(0.0, "Maximum factor minus 1: 0.2 is 1 / 1.2 to 1.2", min=0, max=10)
    saturation: float = option(0.0, "Maximum factor minus 1, as of contrast", min=0, max=10)
    hue: float = option(0.0, "Maximum rotation, as a share of the circle", min=0, max=0.5)
    jitter: int = option(0, "Maximum frames by which a frame is taken earlier or later", min=0)
    reverse: float = option(0.0, "Probability of running backwards", min=0, max=1)
    mirrored_classes: tuple[tuple[str, str], ...] | None = None

    def check_combination(self) -> None:
        """Checks that each class is exchanged with one other."""
        named = [name for pair in self.mirrored_classes or () for name in dict.fromkeys(pair)]
        self.require(
            len(set(named)) == len(named),
            f"mirrored_classes must name each class once, in one pair, got {', '.join(named)}",
        )

    @property
    def recolours(self) -> bool:
        """True if colours change."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    def check_for(self, info: DatasetInfo) -> None:
        """Checks that a dataset has images, colours and values that the changes make sense for.

        Raises:
            ConfigError, DatasetError: if not.
        """
        spec = info.spec
        of_images = ("crop", "flip", "brightness", "contrast", "saturation", "hue")
        changed = ", ".join(self.changed(of_images))
        self.require(
            spec.image is not None or not changed,
            f"the records hold no images for {changed}. Leave it out of --augment",
        )
        self.require(
            spec.image is None or spec.image.channels != 1 or not (self.saturation or self.hue),
            "gray frames have neither saturation nor hue. Leave them out of --augment",
        )
        classes = spec.label.class_names
        named = {name for pair in self.mirrored_classes or () for name in pair}
        self.require(
            named <= set(classes),
            f"mirrored_classes must name classes ({', '.join(classes) or 'none'}), "
            f"got {', '.join(sorted(named - set(classes)))}",
        )
        if self.flip and self.mirrored_classes != ():
            _check_named([name for name in classes if name not in named], bool(named))
        if self.flip and _may_change_sign(info):
            raise DatasetError(
                f"a flip may change the sign of {', '.join(spec.value_names)}, and the dataset does not say "
                "of which. Build it with --mirrored_columns NAMES, or --mirrored_columns none, or leave flip "
                "out of --augment"
            )
        if self.reverse and spec.value_names:
            raise DatasetError(
                f"the values of {', '.join(spec.value_names)} would be wrong for a reversed sequence. Leave "
                "reverse out of --augment"
            )


def default_augmentation(info: DatasetInfo) -> Augmentation | None:
    """Returns a flip of half of the sequences if it certainly leaves their labels and signals right.

    That is so if no name of a class speaks of a side or is shorter than a word, and if the dataset says which
    values mirror. A speed does not.
    """
    names = info.spec.label.class_names
    sided = any(find_mirrored(names)) or any(_SIDED.search(name.casefold()) for name in names)
    if info.spec.image is None or sided or _may_change_sign(info):
        return None
    return Augmentation(flip=0.5)


def _may_change_sign(info: DatasetInfo) -> bool:
    """Returns True if a flip changes the sign of targets or signals and the dataset does not say of which."""
    return info.mirrored is None and bool(
        {name.casefold() for name in info.spec.value_names} - _SIDELESS
    )


def parse_augmentation(text: str, mirrored_classes: str = "") -> Augmentation:
    """Returns what ``--augment crop=0.7,flip=0.5`` and ``--mirrored_classes left=right`` ask for."""
    names = [item.name for item in options_of(Augmentation)]
    values = _pairs("augment", "crop=0.7,flip=0.5", text)
    for name in values:
        if name not in names:
            raise ConfigError(f"--augment takes {', '.join(names)}, got {name!r}")
    pairs: tuple[tuple[str, str], ...] | None = None if not mirrored_classes else ()
    if mirrored_classes not in ("", "none"):
        pairs = tuple(_pairs("mirrored_classes", "left=right", mirrored_classes).items())
    return dataclasses.replace(make_options(Augmentation, values), mirrored_classes=pairs)


def _check_named(classes: Sequence[str], others_named: bool) -> None:
    """Raises `DatasetError` if a flip seems to change classes that ``mirrored_classes`` does not name."""
    pairs, alone = find_mirrored(classes)
    if not pairs and not alone:
        return
    found = [f"{first!r} and {second!r} seem to change places" for first, second in pairs]
    found += [f"{name!r} seems to become another class, and none has its name" for name in alone]
    more = f", and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    said = ",".join(
        f"{first}={second}" for first, second in [*pairs, *zip(alone, alone, strict=True)]
    )
    what = "Name them too" if others_named else "Say what a flip does to them"
    keep = "" if others_named else ", or --mirrored_classes none if all classes stay the same"
    raise DatasetError(
        f"a flip mirrors left and right: {', '.join(found[:_MAX_NAMED])}{more}. {what}: --mirrored_classes "
        f"{shlex.quote(said)} (NAME=NAME keeps a class){keep}, or leave flip out of --augment"
    )


def _pairs(flag: str, example: str, text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, _, value = (word.strip() for word in part.partition("="))
        if not (name and value):
            raise ConfigError(f"--{flag} must be like {example}, got {text!r}")
        if name in pairs:
            raise ConfigError(f"--{flag} must name each once, got {text!r}")
        pairs[name] = value
    return pairs


def read_spec(
    spec: SequenceSpec, clips: Clips | None = None, image_size: tuple[int, int] | None = None
) -> SequenceSpec:
    """Returns the spec of sequences as they are read; checks that records have such clips and images."""
    if clips is not None:
        if clips.span > spec.num_frames:
            raise ConfigError(
                f"the records hold {spec.num_frames} frames, and num_frames {clips.num_frames} with "
                f"frame_step {clips.frame_step} needs {clips.span}. Lower one of them"
            )
        rate = None if spec.frame_rate is None else spec.frame_rate / clips.frame_step
        spec = dataclasses.replace(spec, num_frames=clips.num_frames, frame_rate=rate)
    if image_size is not None:
        if spec.image is None:
            raise ConfigError("the records hold no images to resize. Leave image_size out")
        height, width = image_size
        if min(height, width) < 1:
            raise ConfigError(f"image_size must be positive, got {height}x{width}")
        spec = dataclasses.replace(
            spec, image=dataclasses.replace(spec.image, height=height, width=width)
        )
    return spec

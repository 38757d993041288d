"""`ReadingConfig`: what of the records is trained on, checked when it is made; and how it is read later."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from tfrecords_schema.info import DatasetInfo
from trainer.config.clips import Augmentation, Clips, Place, parse_augmentation, read_spec
from trainer.config.options import ConfigError, check_choice, check_whole, option

ClipAt = Literal["auto", "random", "first", "center", "last"]

READING_FILE = "reading.json"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How sequences become what a model takes, where nothing is random: in evaluation and prediction.

    Attributes:
        clips: the part of a sequence; several of them are answered one by one, and the answers averaged.
        image_size: height and width that frames are resized to.
    """

    clips: Clips | None = None
    image_size: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """Clips a sequence."""
        return self.clips.count if self.clips is not None else 1

    def seen(self, info: DatasetInfo) -> DatasetInfo:
        """A dataset as the model sees it: of shorter sequences and smaller frames."""
        spec = read_spec(info.spec, self.clips, self.image_size)
        return dataclasses.replace(info, spec=spec)

    def to_json(self) -> dict[str, Any]:
        """``{"num_frames": 8, "frame_step": 2, "at": "center", "image_size": [90, 160]}``.

        Null stands for all frames there are, and for their size.
        """
        clips = self.clips
        return {
            "num_frames": clips.num_frames if clips else None,
            "frame_step": clips.frame_step if clips else 1,
            "at": clips.at if clips else "first",
            "image_size": list(self.image_size) if self.image_size else None,
        }


WHOLE = Reading()


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """What of the records is trained on, and in which order.

    Example: ``ReadingConfig(num_frames=8, frame_step=2)`` trains on 8 frames that span 15 of each sequence.

    Raises:
        ConfigError: when a value is out of range, or two contradict each other.
    """

    num_frames: int | None = option(
        None, "frames of a sequence that are read; by default as many as records hold"
    )
    frame_step: int = option(1, "from one of these frames to the next: 2 takes every other")
    clip_at: ClipAt = option(  # noqa: RUF009 (a dataclasses.field, like the others)
        "auto",
        "where in its sequence a clip of fewer frames lies: random (center in evaluation), first, center or "
        "last; auto is where the label was measured, else random",
    )
    eval_clips: int = option(
        1,
        "clips of each sequence, spread evenly, over which the model's answers are averaged in evaluation",
    )
    image_size: tuple[int, int] | None = option(
        None, "resize frames to this height and width; by default they are as stored"
    )
    shuffle_buffer: int | None = option(
        None, "sequences shuffled at a time; by default as many as fit in 256 MiB"
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
    ignore_errors: bool = option(
        False,
        "on: leave damaged records out, and count them, instead of stopping at the first; or off",
    )

    def __post_init__(self) -> None:
        for name in ("num_frames", "shuffle_buffer"):
            if getattr(self, name) is not None:
                check_whole(self, name, least=1)
        check_whole(self, "frame_step", least=1)
        check_whole(self, "eval_clips", least=1)
        check_choice(self, "clip_at", ("auto", "random", "first", "center", "last"))
        if self.image_size is not None and not all(0 < side < 2**16 for side in self.image_size):
            raise ConfigError(
                "image_size must be a height and a width above 0 and below 2**16, as in 90x160, got "
                f"{self.image_size[0]}x{self.image_size[1]}"
            )
        augmentation = self.augmentation
        if self.mirrored_classes and not (augmentation and augmentation.flip):
            raise ConfigError("mirrored_classes are for a flip: give --augment flip=0.5 too")
        self._check_clips()
        for name in ("cache_frames", "balance_classes"):
            if self.ignore_errors and getattr(self, name):
                raise ConfigError(
                    f"--ignore_errors on goes without --{name}, which counts on every record: leave one out"
                )

    @property
    def augmentation(self) -> Augmentation | None:
        """What `augment` and `mirrored_classes` ask for."""
        if not self.augment:
            return None
        return parse_augmentation(self.augment, self.mirrored_classes or "")

    def training_clips(self, info: DatasetInfo) -> Clips | None:
        """The part of each sequence that is trained on; None for all of it."""
        return self._clips(info, self._place(info))

    def evaluation(self, info: DatasetInfo) -> Reading:
        """How sequences of a dataset are read where nothing is random."""
        place = self._place(info)
        at: Place | int = "center" if place == "random" else place
        if self.eval_clips > 1:
            at = self.eval_clips
        return Reading(clips=self._clips(info, at), image_size=self.image_size)

    def validation(self, info: DatasetInfo) -> Reading:
        """The same after each epoch: with one clip a sequence."""
        return dataclasses.replace(self, eval_clips=1).evaluation(info)

    def check_for(self, info: DatasetInfo) -> None:
        """Checks that a dataset has what the options are about.

        Raises:
            ConfigError, DatasetError: naming the option.
        """
        if self.augmentation is not None:
            self.augmentation.check_for(info)
        label, has_images = info.spec.label, info.spec.image is not None
        if self.cache_frames is not None and not has_images:
            raise ConfigError(
                "the records hold signals only, no images for --cache_frames: leave it out"
            )
        read_spec(info.spec, self.training_clips(info), self.image_size)
        by_frame = " by frame" if label.per_frame else ""
        if self.balance_classes and (label.task != "classification" or label.per_frame):
            raise ConfigError(
                f"balance_classes is for one class a sequence, got task {label.task}{by_frame}: leave it out"
            )
        if self.eval_clips > 1 and (label.per_frame or self._place(info) != "random"):
            raise ConfigError(
                f"--eval_clips {self.eval_clips} averages answers to a whole sequence, and these are for "
                f"{'each frame' if label.per_frame else 'its ' + self._place(info)}: leave it out"
            )

    def _place(self, info: DatasetInfo) -> Place:
        if self.clip_at != "auto":
            return self.clip_at
        measured = "telemetry" in info.options or "annotation" in info.options
        label_at = info.options.get("label_at", "last") if measured else None
        if label_at in ("last", "center") and not info.spec.label.per_frame:
            # A value of one frame belongs to no clip that leaves this frame out.
            return "last" if label_at == "last" else "center"
        return "random"

    def _clips(self, info: DatasetInfo, at: Place | int) -> Clips | None:
        if self.num_frames is None and self.frame_step == 1:
            return None
        fitting = (info.spec.num_frames - 1) // self.frame_step + 1
        return Clips(num_frames=self.num_frames or fitting, frame_step=self.frame_step, at=at)

    def _check_clips(self) -> None:
        if self.num_frames is None and self.frame_step == 1:
            for name in ("eval_clips", "clip_at"):
                if getattr(self, name) not in (1, "auto"):
                    raise ConfigError(
                        f"--{name} {getattr(self, name)} is for fewer frames than records hold: give "
                        "--num_frames too"
                    )
        if self.eval_clips > 1 and self.clip_at not in ("auto", "random"):
            raise ConfigError(
                f"--eval_clips {self.eval_clips} are spread over the sequence, and --clip_at is "
                f"{self.clip_at}: leave one out"
            )

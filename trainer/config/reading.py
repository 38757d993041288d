"""`ReadingConfig`: the parts of records for training; `Reading`: those for evaluation and prediction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from tfrecords_schema.clip_positions import MAX_CLIPS
from tfrecords_schema.codec import to_json
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.options import option
from trainer.config.clips import Augmentation, Clips, Place, parse_augmentation, read_spec
from trainer.config.options import TrainerOptions

READING_FILE = "reading.json"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The part of a sequence that a model takes when nothing is random: in evaluation and prediction.

    Attributes:
        clips: parts of a sequence; the predictions of several are averaged. None takes all frames.
        image_size: height and width that frames are resized to.
    """

    clips: Clips | None = None
    image_size: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """Clips per sequence."""
        return self.clips.count if self.clips is not None else 1

    def seen(self, info: DatasetInfo) -> DatasetInfo:
        """Returns the description of a dataset as the model sees it: shorter sequences, smaller frames."""
        spec = read_spec(info.spec, self.clips, self.image_size)
        return dataclasses.replace(info, spec=spec)

    def to_json(self) -> dict[str, Any]:
        """Returns the four options of a clip and its size; null means all frames, and their stored size."""
        whole = {"num_frames": None, "frame_step": 1, "at": "first"}
        return {**(to_json(self.clips) or whole), "image_size": to_json(self.image_size)}


WHOLE = Reading()


@dataclass(frozen=True, kw_only=True)
class ReadingConfig(TrainerOptions):
    """The parts of the records that are trained on, and their order.

    Example: ``ReadingConfig(num_frames=8, frame_step=2)`` trains on 8 frames that span 15 of each sequence.

    Raises:
        ConfigError: if a value is out of range, or two contradict each other.
    """

    num_frames: int | None = option(
        None, "Frames that are read of each sequence", default_text="all that records hold", min=1
    )
    frame_step: int = option(
        1, "Frames from one frame that is read to the next; 2 takes every other", min=1
    )
    clip_at: Literal["auto", "random", "first", "center", "last"] = option(
        "auto",
        "Place in its sequence of a clip of fewer frames; random is center in evaluation. auto: where the "
        "label was measured, else random",
    )
    eval_clips: int = option(
        1,
        "Clips of each sequence, spread evenly, over which predictions are averaged in evaluation",
        min=1,
        max=MAX_CLIPS,
    )
    image_size: tuple[int, int] | None = option(
        None,
        "Height and width that frames are resized to",
        default_text="as stored",
        min=1,
        max=2**16 - 1,
    )
    shuffle_buffer: int | None = option(
        None, "Sequences shuffled at a time", default_text="as many as fit in 256 MiB", min=1
    )
    balance_classes: bool = option(
        False,
        "Read as many sequences of each class as of any other in each epoch, instead of class weights",
    )
    augment: str | None = option(
        None,
        "Random changes of the sequences that are trained on: any of crop, flip, brightness, contrast, "
        "saturation, hue, jitter and reverse, such as crop=0.7,flip=0.5,hue=0.02; or none",
        default_text="flip=0.5 where it certainly changes no label, except for pretrained backbones",
        metavar="NAME=VALUE,...",
    )
    mirrored_classes: str | None = option(
        None,
        "Pairs of classes that a flip exchanges, such as left=right; none if it changes no class",
        default_text="unknown, so that a flip of classes such as turn_left is refused",
        metavar="CLASS=CLASS,...",
    )
    cache_frames: str | None = option(
        None,
        "Decode each frame once instead of in every epoch, and keep it in memory, or in a folder of files "
        "that later runs find; the log names the size",
        metavar="memory|FOLDER",
    )
    ignore_errors: bool = option(
        False, "Skip and count damaged records instead of stopping at the first"
    )

    def check_combination(self) -> None:
        """Checks that clips, augmentation and caching do not contradict each other."""
        augmentation = self.augmentation
        self.require(
            not self.mirrored_classes or bool(augmentation and augmentation.flip),
            "--mirrored_classes needs a flip. Give --augment flip=0.5 too",
        )
        clip_options = self.changed(("eval_clips", "clip_at"))
        self.require(
            not clip_options or not self._reads_all,
            f"{self.typed(clip_options[:1])} needs fewer frames than records hold. Give --num_frames too",
        )
        self.require(
            self.eval_clips == 1 or self.clip_at in ("auto", "random"),
            f"--eval_clips {self.eval_clips} are spread over the sequence, and --clip_at is "
            f"{self.clip_at}. Leave one out",
        )
        whole = self.changed(("cache_frames", "balance_classes"))
        self.require(
            not self.ignore_errors or not whole,
            f"--ignore_errors skips records, and --{' and --'.join(whole)} needs all of them. Leave one out",
        )

    @property
    def augmentation(self) -> Augmentation | None:
        """The changes that `augment` and `mirrored_classes` ask for; None if they ask for none."""
        if self.augment in (None, "", "none"):
            return None
        return parse_augmentation(str(self.augment), self.mirrored_classes or "")

    def training_clips(self, info: DatasetInfo) -> Clips | None:
        """Returns the part of each sequence that is trained on; None for all of it."""
        return self._clips(info, self._place(info))

    def evaluation(self, info: DatasetInfo) -> Reading:
        """Returns how sequences are read in evaluation, where nothing is random."""
        place = self._place(info)
        single: Place = "center" if place == "random" else place
        at = self.eval_clips if self.eval_clips > 1 else single
        return Reading(clips=self._clips(info, at), image_size=self.image_size)

    def validation(self, info: DatasetInfo) -> Reading:
        """Returns how sequences are read after each epoch: as in evaluation, with one clip per sequence."""
        return dataclasses.replace(self, eval_clips=1).evaluation(info)

    def check_for(self, info: DatasetInfo) -> None:
        """Checks that a dataset has what the options need."""
        if self.augmentation is not None:
            self.augmentation.check_for(info)
        label = info.spec.label
        self.require(
            self.cache_frames is None or info.spec.image is not None,
            "the records hold signals only, no images for --cache_frames. Leave it out",
        )
        read_spec(info.spec, self.training_clips(info), self.image_size)
        by_frame = " by frame" if label.per_frame else ""
        self.require(
            not self.balance_classes or (label.task == "classification" and not label.per_frame),
            f"--balance_classes needs one class per sequence, got task {label.task}{by_frame}. Leave it out",
        )
        place = "each frame" if label.per_frame else f"its {self._place(info)}"
        self.require(
            self.eval_clips == 1 or place == "its random",
            f"--eval_clips {self.eval_clips} averages predictions for a whole sequence, and these are for "
            f"{place}. Leave it out",
        )

    def _place(self, info: DatasetInfo) -> Place:
        if self.clip_at != "auto":
            return self.clip_at
        label_at = info.build_options.label_at
        # The value of one frame does not describe a clip without that frame.
        if label_at in ("last", "center") and not info.spec.label.per_frame:
            return "last" if label_at == "last" else "center"
        return "random"

    def _clips(self, info: DatasetInfo, at: Place | int) -> Clips | None:
        if self._reads_all:
            return None
        fitting = (info.spec.num_frames - 1) // self.frame_step + 1
        return Clips(num_frames=self.num_frames or fitting, frame_step=self.frame_step, at=at)

    @property
    def _reads_all(self) -> bool:
        return self.num_frames is None and self.frame_step == 1

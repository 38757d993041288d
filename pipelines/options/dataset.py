"""What a build is made with: frozen options that check themselves.

The options are grouped by the stage that reads them. Those in `DatasetOptions` decide the bytes of the
dataset and are stored in its ``dataset_info.json``; those in `RunOptions` decide only how the work is done.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from pipelines.errors import UsageError
from pipelines.options.checks import check, check_choice, check_names
from pipelines.options.telemetry import AnnotationOptions, TelemetryOptions
from tfrecords_schema.machine import usable_cpus
from tfrecords_schema.spec import ImageSpec

SamplingMode = Literal["windows", "uniform", "last"]
ShortClips = Literal["drop", "pad", "loop"]
Resize = Literal["stretch", "crop", "letterbox"]
Interpolation = Literal["area", "nearest", "linear", "cubic", "lanczos"]
SplitBy = Literal["group", "time"]
LabelAt = Literal["last", "mean", "center", "each"]

_MAX_TIMEOUT = 86_400

MAX_SHARDS = 99_999
"""Of a split: shard files are numbered with five digits."""


SPLIT_NAME_RULE = "a name of small letters, digits and '_' that begins with a letter"


def is_split_name(text: str) -> bool:
    """Whether ``text`` may name a split, and so the files of its shards."""
    return bool(re.fullmatch(r"[a-z][a-z0-9_]*", text))


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Which frames make a sequence.

    Attributes:
        num_frames: frames a sequence.
        frame_rate: frames/s to sample at by time; None takes every frame as it comes.
        stride: frames from the start of one window to the start of the next; None is ``num_frames``.
        sampling: ``windows`` slides over the clip; ``uniform`` takes one sequence a clip, its frames
            spread evenly over the whole of it; ``last`` takes one, the clip's last frames.
        short_clips: what becomes of a clip with fewer than ``num_frames`` frames: ``drop`` it, ``pad`` it
            with its last frame (counted by ``image/valid_frames``), or ``loop`` it.
    """

    num_frames: int = 16
    frame_rate: Fraction | None = None
    stride: int | None = None
    sampling: SamplingMode = "windows"
    short_clips: ShortClips = "drop"

    def __post_init__(self) -> None:
        check(self.num_frames >= 1, "--num_frames must be at least 1", self.num_frames)
        check(
            self.frame_rate is None or 0 < self.frame_rate <= 1000,
            "--frame_rate must be above 0 and at most 1000 frames/s",
            self.frame_rate,
        )
        check(self.stride is None or self.stride >= 1, "--stride must be at least 1", self.stride)
        check_choice("--sampling", self.sampling, SamplingMode)
        check_choice("--short_clips", self.short_clips, ShortClips)
        check(
            self.sampling == "windows" or self.stride is None,
            f"--stride goes with --sampling windows; leave it out for --sampling {self.sampling}",
            f"--stride {self.stride}",
        )

    @property
    def window_stride(self) -> int:
        """The stride in effect."""
        return self.num_frames if self.stride is None else self.stride


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How a frame is scaled and stored. Sizes are in pixels, quality is JPEG's 1 to 100."""

    height: int = 180
    width: int = 320
    resize: Resize = "stretch"
    interpolation: Interpolation = "area"
    image_format: Literal["jpeg", "png"] = "jpeg"
    jpeg_quality: int = 95
    grayscale: bool = False

    def __post_init__(self) -> None:
        for value in (self.height, self.width):
            check(
                1 <= value <= 16384,
                "--size must be HEIGHTxWIDTH, each 1 to 16384, such as 180x320",
                f"{self.height}x{self.width}",
            )
        check_choice("--resize", self.resize, Resize)
        check_choice("--interpolation", self.interpolation, Interpolation)
        check(
            self.image_format in ("jpeg", "png"),
            "--image_format must be jpeg or png",
            self.image_format,
        )
        check(1 <= self.jpeg_quality <= 100, "--jpeg_quality must be 1 to 100", self.jpeg_quality)

    @property
    def spec(self) -> ImageSpec:
        """The stored image these options give."""
        return ImageSpec(
            height=self.height,
            width=self.width,
            channels=1 if self.grayscale else 3,
            format="JPEG" if self.image_format == "jpeg" else "PNG",
        )


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which split a group of sources goes to.

    Attributes:
        splits: fraction of the groups by split name; they sum to 1.
        group_by: regular expression with one group, searched in each source's path relative to the input;
            what it captures is the source's group. None makes every source video its own group.
        split_lists: ``NAME=FILE`` (UCF101: a video a line) or ``FILE`` (HMDB51: a video and 0, 1 or 2).
        split_by: ``group`` deals whole groups to splits; ``time`` cuts every source into a block a split, in
            order of time, with a sequence's length left out between blocks.
        seed: of the hash that deals groups to splits and segments to shards.
    """

    splits: tuple[tuple[str, float], ...] = (("train", 0.8), ("validation", 0.1), ("test", 0.1))
    group_by: str | None = None
    split_by: SplitBy = "group"
    split_lists: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        expected = "--splits must be NAME=FRACTION,... with fractions that sum to 1"
        names = [name for name, _ in self.splits]
        check(bool(names) and len(set(names)) == len(names), expected, self._splits_text())
        for name, fraction in self.splits:
            check(is_split_name(name), expected, self._splits_text())
            check(0 <= fraction <= 1, expected, self._splits_text())
        total = sum(fraction for _, fraction in self.splits)
        check(abs(total - 1) < 1e-6, expected, f"{self._splits_text()} (sum {total:g})")
        if self.group_by is not None:
            try:
                groups = re.compile(self.group_by).groups
            except (re.error, OverflowError, RecursionError) as error:
                raise UsageError(
                    f"--group_by must be a regular expression, got {self.group_by!r}: {error}"
                ) from error
            check(
                groups == 1,
                r"--group_by must capture exactly one group, such as '_(g\d+)_'",
                f"{self.group_by!r} with {groups}",
            )
        check_choice("--split_by", self.split_by, SplitBy)
        check(
            self.split_by == "group" or not (self.group_by or self.split_lists),
            "--split_by time cuts every drive into all splits: leave out --group_by and --split_list",
            "both",
        )

    def _splits_text(self) -> str:
        return ",".join(f"{name}={fraction:g}" for name, fraction in self.splits)


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How work and records are cut up.

    Attributes:
        shards: files a split (fewer when it has fewer segments); None derives it from ``shard_size``.
        shard_size: bytes a shard to aim at.
        segment_length: seconds of footage that are built as one piece; a longer source is cut.
    """

    shards: int | None = None
    shard_size: int = 128 * 2**20
    segment_length: float = 600.0

    def __post_init__(self) -> None:
        check(
            self.shards is None or 1 <= self.shards <= MAX_SHARDS,
            f"--shards must be 1 to {MAX_SHARDS}",
            self.shards,
        )
        check(self.shard_size >= 1, "--shard_size must be at least 1 byte", self.shard_size)
        check(
            0 < self.segment_length < math.inf,
            "--segment_length must be above 0 s, and finite",
            self.segment_length,
        )


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What a sequence is labelled with.

    Attributes:
        label_columns: numeric columns, of a manifest or of telemetry, that are regression targets.
        label_names: names of the targets, where an annotation file gives none.
        label_units: of the targets.
        label_at: which frame's value a sequence takes, where there is one for each: the ``last`` frame's, the
            ``mean`` of all, the ``center`` one's (number ``n // 2``, from 0, of the ``n`` that are not
            padding); ``each`` keeps them all.
        class_column: column of telemetry that holds the class of each row.
        mirrored_columns: targets and signals that change their sign when frames are mirrored; empty when
            none does, None when that is not known.
    """

    label_columns: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    label_units: tuple[str, ...] = ()
    label_at: LabelAt = "last"
    class_column: str | None = None
    mirrored_columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_names("--label_columns", self.label_columns)
        check_names("--mirrored_columns", self.mirrored_columns or ())
        check_names("--label_names", self.label_names)
        check(
            not self.label_names or not self.label_columns,
            "--label_names goes with --annotation; columns have names of their own",
            f"--label_columns {','.join(self.label_columns)} too",
        )
        if self.label_columns:
            check(
                not self.label_units or len(self.label_units) == len(self.label_columns),
                f"--label_units must name as many units as --label_columns names columns "
                f"({len(self.label_columns)})",
                len(self.label_units),
            )
        else:
            check(
                not (self.label_units and self.label_names)
                or len(self.label_units) == len(self.label_names),
                f"--label_units must name as many units as there are --label_names "
                f"({len(self.label_names)})",
                len(self.label_units),
            )
        check_choice("--label_at", self.label_at, LabelAt)
        check(
            self.class_column is None or not self.label_columns,
            "labels must be classes (--class_column) or numbers (--label_columns)",
            "both",
        )
        check(
            self.class_column is None or not self.label_units,
            "--label_units are of numbers; leave them out for --class_column",
            ",".join(self.label_units),
        )
        check(
            self.class_column is None or self.label_at != "mean",
            "--label_at mean goes with numbers; for --class_column take last, center or each",
            "--label_at mean",
        )


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Everything that decides the bytes of a dataset, besides its sources and library versions."""

    name: str
    sampling: SamplingOptions = SamplingOptions()
    image: ImageOptions = ImageOptions()
    split: SplitOptions = SplitOptions()
    shard: ShardOptions = ShardOptions()
    label: LabelOptions = LabelOptions()
    annotation: AnnotationOptions | None = None
    telemetry: TelemetryOptions | None = None

    def to_json(self) -> dict[str, Any]:
        """Flag names to plain JSON values, as stored in ``dataset_info.json``."""
        fields: dict[str, Any] = {"name": self.name}
        for group in (self.sampling, self.image, self.split, self.shard, self.label):
            fields |= dataclasses.asdict(group)
        for source in (self.annotation, self.telemetry):
            fields |= dataclasses.asdict(source) if source else {}
        if self.sampling.frame_rate is not None:
            fields["frame_rate"] = str(self.sampling.frame_rate)
        fields["splits"] = dict(self.split.splits)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a build is run; none of it changes a byte of the dataset.

    Attributes:
        workers: of the local runner; None is one a CPU this process may use.
        max_failure_rate: fraction of the sources that may fail before the build does.
        decode_timeout: seconds a decoder may go without progress.
        staging_size: bytes of local disk, for each process, for copies of sources on an object store.
        overwrite: replace another build in the output folder.
        dry_run: print the plan and stop.
        beam_args: flags for Beam itself (``--runner=...``).
    """

    workers: int | None = None
    max_failure_rate: float = 0.05
    decode_timeout: float = 60.0
    staging_size: int = 10 * 2**30
    overwrite: bool = False
    dry_run: bool = False
    beam_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(
            self.workers is None or 1 <= self.workers <= 1024,
            "--workers must be 1 to 1024",
            self.workers,
        )
        check(
            0 <= self.max_failure_rate <= 1,
            "--max_failure_rate must be 0 to 1",
            self.max_failure_rate,
        )
        check(
            0 < self.decode_timeout <= _MAX_TIMEOUT,
            f"--decode_timeout must be above 0 and at most {_MAX_TIMEOUT} s",
            self.decode_timeout,
        )
        check(self.staging_size >= 1, "--staging_size must be at least 1 byte", self.staging_size)

    @property
    def local_workers(self) -> int:
        """Workers of the local runner in effect."""
        return self.workers or usable_cpus()

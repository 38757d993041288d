"""The command line's flags to options: the one place where arguments are parsed.

Flags are written with underscores, as Beam's and TensorFlow's are; dashes are taken too. A flag that is
neither ours nor Beam's is an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NoReturn, TypeVar, get_args

from pipelines.errors import UsageError
from pipelines.options import dataset as options
from pipelines.options import telemetry as dashcam_options
from pipelines.options.dataset import (
    DatasetOptions,
    ImageOptions,
    LabelOptions,
    RunOptions,
    SamplingOptions,
    ShardOptions,
    SplitOptions,
)
from pipelines.options.telemetry import AnnotationOptions, TelemetryOptions

T = TypeVar("T")

_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and say where help is."""

    def __init__(self, **settings: Any):
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        """Prints the error and exits with status 2."""
        # Our own messages name the flag already.
        message = re.sub(r"^argument (--\w+): (?=\1)", "", message)
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def normalize(argv: Sequence[str]) -> list[str]:
    """``argv`` with underscores for dashes in flag names, and negative values tied to their flags.

    ``--num-frames -3`` becomes ``--num_frames=-3``, so that the value is refused for what it is, and not
    taken for a flag.
    """
    normal: list[str] = []
    for argument in argv:
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument.partition("=")
            normal.append("--" + name[2:].replace("-", "_") + equals + value)
        elif re.match(r"-[\d.]", argument) and normal and re.fullmatch(r"--\w+", normal[-1]):
            normal[-1] += f"={argument}"
        else:
            normal.append(argument)
    return normal


def add_dataset_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `dataset_options` reads."""
    parser.add_argument("--name", help="of the dataset; None is the input's own name")
    _add_sampling_flags(parser.add_argument_group("which frames make a sequence"))
    _add_image_flags(parser.add_argument_group("how frames are stored"))
    _add_split_flags(parser.add_argument_group("splits"))
    shards = parser.add_argument_group("shards")
    defaults = ShardOptions()
    shards.add_argument("--shards", type=int, help="files a split; None derives it from the size")
    shards.add_argument(
        "--shard_size", type=checked(parse_bytes), default="128MiB", help="to aim at"
    )
    shards.add_argument(
        "--segment_length",
        type=float,
        default=defaults.segment_length,
        help="seconds of footage built as one piece; longer sources are cut, without losing a sequence",
    )


def add_label_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for regression targets from a manifest."""
    labels = parser.add_argument_group("labels")
    _add_names(labels, "label_columns", "COLUMN", "of the manifest that are regression targets")
    _add_names(labels, "label_units", "UNIT", "of the label columns")
    _add_mirrored(labels)


def add_dashcam_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `annotation_options` and `telemetry_options` read, and those of labels."""
    folders = parser.add_argument_group("folders of frames")
    folders.add_argument("--annotation", metavar="FILE.json", help="in each folder of frames")
    folders.add_argument(
        "--label",
        metavar="EXPRESSION",
        help="JMESPath of the label in it, such as '[0].velocity': numbers are targets, text is a class",
    )
    _add_names(folders, "label_names", "NAME", "of the targets that --label finds")
    drives = parser.add_argument_group("drives with telemetry")
    defaults = TelemetryOptions(telemetry="")
    add = drives.add_argument
    add(
        "--telemetry",
        metavar="TEMPLATE",
        help="a video's telemetry (.csv .tsv .jsonl .json .gpx .npy .txt), relative to the video's folder, "
        "such as '{stem}.csv' or '{parent}/gps.gpx'; also {name} and {drive}",
    )
    _add_names(drives, "telemetry_columns", "COLUMN", "of files that do not name their own")
    add("--time_column", help="column of times; None: row i belongs to frame i")
    add(
        "--time_unit",
        choices=get_args(dashcam_options.TimeUnit),
        default=defaults.time_unit,
        help="of numbers in it",
    )
    add(
        "--time_offset",
        type=float,
        default=defaults.time_offset,
        metavar="S",
        help="seconds added to the telemetry's times",
    )
    add(
        "--time_origin",
        choices=get_args(dashcam_options.TimeOrigin),
        default=defaults.time_origin,
        help="file: times count from the first frame; clock: they are dates, as is the video's creation time",
    )
    add(
        "--interpolate",
        choices=get_args(dashcam_options.Interpolate),
        default=defaults.interpolate,
        help="how a value between two rows is found",
    )
    add(
        "--max_gap",
        type=float,
        default=defaults.max_gap,
        metavar="S",
        help="seconds between rows beyond which there are no values, and sequences stop",
    )
    _add_names(drives, "angle_columns", "COLUMN", "of degrees, which go around at 360")
    add(
        "--join",
        metavar="REGEX",
        help=r"captures the drive and the order of a file in it, such as '(\w+)_(\d+)\.mp4'; its files are "
        "read as one. None: each video is a drive",
    )
    labels = parser.add_argument_group("labels and signals")
    _add_names(labels, "label_columns", "COLUMN", "of telemetry that are regression targets")
    _add_names(labels, "label_units", "UNIT", "of the targets")
    labels.add_argument("--class_column", metavar="COLUMN", help="of telemetry that holds a class")
    labels.add_argument(
        "--label_at",
        choices=get_args(options.LabelAt),
        default=LabelOptions().label_at,
        help="the frame whose value a sequence is labelled with; each labels every frame",
    )
    _add_names(labels, "signal_columns", "COLUMN", "of telemetry that are input signals")
    _add_names(labels, "signal_units", "UNIT", "of the signals")
    _add_mirrored(labels)
    labels.add_argument(
        "--no_images",
        action="store_true",
        help="sequences of signals alone: --input holds telemetry, and no video is read",
    )


def _add_names(group: argparse._ArgumentGroup, name: str, metavar: str, help_text: str) -> None:
    group.add_argument(
        f"--{name}",
        nargs="+",
        default=[],
        metavar=metavar,
        help=f"{help_text}, separated by commas or spaces",
    )


def _add_mirrored(group: argparse._ArgumentGroup) -> None:
    about = (
        "targets and signals that change their sign in a mirror, such as yaw_rate; none: none does"
    )
    _add_names(group, "mirrored_columns", "COLUMN", about)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `run_options` reads."""
    run = add_work_flags(parser)
    run.add_argument("--overwrite", action="store_true", help="replace another build in --output")
    run.add_argument("--dry_run", action="store_true", help="print the plan and stop")


def add_work_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the flags by which footage is read, for any end; returns their group."""
    defaults = RunOptions()
    run = parser.add_argument_group("running")
    run.add_argument("--workers", type=int, help="of the local runner; None is one a CPU")
    run.add_argument(
        "--max_failure_rate",
        type=float,
        default=defaults.max_failure_rate,
        help="fraction of the sources that may fail before the whole does",
    )
    run.add_argument(
        "--decode_timeout",
        type=float,
        default=defaults.decode_timeout,
        help="seconds a decoder may go without progress",
    )
    run.add_argument(
        "--staging_size",
        type=checked(functools.partial(parse_bytes, flag="--staging_size")),
        default="10GiB",
        help="of local disk, for each process, for copies of sources on an object store",
    )
    return run


def dataset_options(flags: argparse.Namespace, *, default_name: str) -> DatasetOptions:
    """The options that decide a dataset's bytes."""
    height, width = flags.size
    return DatasetOptions(
        name=flags.name or default_name,
        sampling=SamplingOptions(
            num_frames=flags.num_frames,
            frame_rate=flags.frame_rate,
            stride=flags.stride,
            sampling=flags.sampling,
            short_clips=flags.short_clips,
        ),
        image=ImageOptions(
            height=height,
            width=width,
            resize=flags.resize,
            interpolation=flags.interpolation,
            image_format=flags.image_format,
            jpeg_quality=flags.jpeg_quality,
            grayscale=flags.grayscale,
        ),
        split=SplitOptions(
            splits=flags.splits,
            group_by=flags.group_by,
            split_by=flags.split_by,
            split_lists=tuple(flags.split_list),
            seed=flags.seed,
        ),
        shard=ShardOptions(
            shards=flags.shards, shard_size=flags.shard_size, segment_length=flags.segment_length
        ),
        label=label_options(flags),
        annotation=annotation_options(flags),
        telemetry=telemetry_options(flags),
    )


def label_options(flags: argparse.Namespace) -> LabelOptions:
    """Where labels come from."""
    return LabelOptions(
        label_columns=_names(flags, "label_columns"),
        label_names=_names(flags, "label_names"),
        label_units=_names(flags, "label_units"),
        label_at=getattr(flags, "label_at", LabelOptions().label_at),
        class_column=getattr(flags, "class_column", None),
        mirrored_columns=_mirrored_columns(flags),
    )


def annotation_options(flags: argparse.Namespace) -> AnnotationOptions | None:
    """Where the labels of folders of frames stand; None when this is about other footage.

    Raises:
        UsageError: when one flag lacks the other.
    """
    annotation, label = getattr(flags, "annotation", None), getattr(flags, "label", None)
    if annotation is None and label is None:
        return None
    if annotation is None or label is None:
        raise UsageError(
            "--annotation FILE.json and --label EXPRESSION go together, got only one of them"
        )
    return AnnotationOptions(annotation=annotation, label=label)


def telemetry_options(flags: argparse.Namespace) -> TelemetryOptions | None:
    """What is measured along drives; None when this is about other footage."""
    if not hasattr(flags, "telemetry"):
        return None
    fields = _telemetry_fields(flags)
    if flags.annotation is not None and (flags.telemetry is not None or flags.no_images):
        raise UsageError(
            "--annotation is for folders of frames, --telemetry and --no_images are for drives, got both"
        )
    if flags.telemetry is None and not flags.no_images:
        defaults = dataclasses.asdict(TelemetryOptions(telemetry=""))
        stray = [name for name in fields if fields[name] not in (defaults[name], None)]
        if stray:
            raise UsageError(
                f"--{stray[0]} goes with --telemetry, which says where a drive's rows lie"
            )
        return None
    return TelemetryOptions(**fields)


def _telemetry_fields(flags: argparse.Namespace) -> dict[str, Any]:
    return {
        "telemetry": flags.telemetry,
        "telemetry_columns": _names(flags, "telemetry_columns"),
        "time_column": flags.time_column,
        "time_unit": flags.time_unit,
        "time_offset": flags.time_offset,
        "time_origin": flags.time_origin,
        "interpolate": flags.interpolate,
        "max_gap": flags.max_gap,
        "angle_columns": _names(flags, "angle_columns"),
        "signal_columns": _names(flags, "signal_columns"),
        "signal_units": _names(flags, "signal_units"),
        "no_images": flags.no_images,
        "join": flags.join,
    }


def _names(flags: argparse.Namespace, flag: str) -> tuple[str, ...]:
    """Names that may be written with spaces or commas between them."""
    written = [names.strip().strip(",") for names in getattr(flags, flag, [])]
    return tuple(name.strip() for name in ",".join(written).split(",")) if written else ()


def _mirrored_columns(flags: argparse.Namespace) -> tuple[str, ...] | None:
    names = _names(flags, "mirrored_columns")
    return () if names == ("none",) else names or None


def run_options(flags: argparse.Namespace, beam_args: Sequence[str]) -> RunOptions:
    """The options that decide how the work is done."""
    return RunOptions(
        workers=flags.workers,
        max_failure_rate=flags.max_failure_rate,
        decode_timeout=flags.decode_timeout,
        staging_size=flags.staging_size,
        overwrite=flags.overwrite,
        dry_run=flags.dry_run,
        beam_args=tuple(beam_args),
    )


def _add_sampling_flags(group: argparse._ArgumentGroup) -> None:
    defaults = SamplingOptions()
    group.add_argument("--num_frames", type=int, default=defaults.num_frames, help="a sequence")
    group.add_argument(
        "--frame_rate",
        type=checked(parse_frame_rate),
        help="frames/s to sample at, such as 10 or 30000/1001; None takes every frame as it comes",
    )
    group.add_argument(
        "--stride",
        type=int,
        help="frames from one window's start to the next one's; None is --num_frames (no overlap)",
    )
    group.add_argument(
        "--sampling",
        choices=get_args(options.SamplingMode),
        default=defaults.sampling,
        help="windows over the clip, or one sequence: spread uniformly over it, or its last frames",
    )
    group.add_argument(
        "--short_clips",
        choices=get_args(options.ShortClips),
        default=defaults.short_clips,
        help="what becomes of clips with fewer than --num_frames frames",
    )


def _add_image_flags(group: argparse._ArgumentGroup) -> None:
    defaults = ImageOptions()
    group.add_argument(
        "--size", type=checked(parse_size), default="180x320", metavar="HxW", help="in pixels"
    )
    group.add_argument(
        "--resize",
        choices=get_args(options.Resize),
        default=defaults.resize,
        help="to the size's aspect ratio",
    )
    group.add_argument(
        "--interpolation",
        choices=get_args(options.Interpolation),
        default=defaults.interpolation,
        help="OpenCV's",
    )
    group.add_argument(
        "--image_format", choices=["jpeg", "png"], default=defaults.image_format, help="of frames"
    )
    group.add_argument("--jpeg_quality", type=int, default=defaults.jpeg_quality, help="1 to 100")
    group.add_argument("--grayscale", action="store_true", help="store one channel")


def _add_split_flags(group: argparse._ArgumentGroup) -> None:
    defaults = SplitOptions()
    group.add_argument(
        "--splits",
        type=checked(parse_splits),
        default=",".join(f"{name}={fraction:g}" for name, fraction in defaults.splits),
        help="fraction of the groups by split",
    )
    group.add_argument(
        "--group_by",
        metavar="REGEX",
        help=r"captures a source's group in its path, such as '_(g\d+)_'; a group never straddles splits. "
        "None makes every video a group",
    )
    group.add_argument(
        "--split_list",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]FILE",
        help="published splits: NAME=FILE as UCF101 lists them, FILE as HMDB51 does; they win over --splits",
    )
    group.add_argument(
        "--split_by",
        choices=get_args(options.SplitBy),
        default=defaults.split_by,
        help="group: a group lies in one split; time: every source is cut into a block a split, in order, "
        "with a sequence's length left out between them",
    )
    group.add_argument(
        "--seed", type=int, default=defaults.seed, help="of the hash behind splits and shards"
    )


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """``parse``, with its `UsageError`s as argparse wants them."""

    def parse_argument(text: str) -> T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_argument


def parse_size(text: str) -> tuple[int, int]:
    """``(height, width)`` of ``"180x320"``.

    Raises:
        UsageError: for anything else.
    """
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text.strip())
    if not match:
        raise UsageError(f"--size must be HEIGHTxWIDTH in pixels, such as 180x320, got {text!r}")
    return int(match[1]), int(match[2])


def parse_bytes(text: str, *, flag: str = "--shard_size") -> int:
    """Bytes in ``"128MiB"``, ``"1.5GB"`` or ``"1000"``.

    Raises:
        UsageError: for anything else.
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in _SIZE_UNITS:
        raise UsageError(f"{flag} must be a size such as 128MiB or 1GB, got {text!r}")
    return int(Fraction(match[1]) * _SIZE_UNITS[match[2].upper()])


def parse_frame_rate(text: str) -> Fraction:
    """Frames/s in ``"10"``, ``"29.97"`` or ``"30000/1001"``, exactly.

    Raises:
        UsageError: for anything else.
    """
    # Without exponents: Fraction("1e999999999") would be computed, for hours.
    number = re.fullmatch(r"[+-]?\d{1,18}(\.\d{1,18}|/0*[1-9]\d{0,17})?", text.strip())
    if not number:
        raise UsageError(f"--frame_rate must be frames/s, such as 10 or 30000/1001, got {text!r}")
    return Fraction(number[0])


def parse_splits(text: str) -> tuple[tuple[str, float], ...]:
    """Fractions by split name in ``"train=0.8,validation=0.2"``.

    Raises:
        UsageError: for anything else.
    """
    splits = []
    for part in text.split(","):
        name, equals, fraction = part.partition("=")
        try:
            splits.append((name.strip(), float(fraction)))
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(
                f"--splits must be NAME=FRACTION,... such as train=0.9,test=0.1, got {text!r}"
            )
    return tuple(splits)

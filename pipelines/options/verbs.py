"""Options of each verb: what its command takes as flags, and its Python call as keywords."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pipelines.options.base import PipelineOptions
from pipelines.options.dataset import RATE, DatasetOptions, FootageOptions, RunOptions
from pipelines.options.layouts import Layout
from tfrecords_schema.options import REQUIRED, group, option

_URLS = "local, or a URL (s3://, gs://, hdfs://)"
_CAMERA = "a camera (its index such as 0, or /dev/video0) or an rtsp(s):// or http(s):// URL"
_OF_DASHCAM = ("label_names", "label_at", "class_column", "annotation", "telemetry")


def _parse_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Returns the pairs in ``"image=frames,label=y"``; raises ValueError for another text."""
    parts = [part.partition("=") for part in text.split(",")]
    if any(not (name.strip() and value.strip()) for name, _, value in parts):
        raise ValueError(text)
    return tuple((name.strip(), value.strip()) for name, _, value in parts)


@dataclass(frozen=True, kw_only=True)
class BuildOptions(PipelineOptions):
    """Options of a build, whatever the footage."""

    input: str = option(REQUIRED, "Footage to build from", metavar="PATH")
    output: str = option(REQUIRED, "Folder of the dataset, or its URL", metavar="DIR")
    append: bool = option(
        False,
        "Build the sources that the dataset in --output does not hold yet, and add them to it. Its shards "
        "stay as they are",
    )
    changed_sources: Literal["refuse", "keep"] = option(
        "refuse",
        "How --append handles sources whose files or labels changed since they were built. refuse: nothing "
        "is built; keep: their records stay as they are",
    )
    dataset: DatasetOptions = group(DatasetOptions, "")
    run: RunOptions = group(RunOptions, "running")

    def check_combination(self) -> None:
        """Checks that a dataset is not both replaced and added to."""
        self.require(
            not (self.append and self.run.overwrite),
            "--append adds to the dataset in --output, and --overwrite replaces it. Leave one out",
        )


@dataclass(frozen=True, kw_only=True)
class VideosOptions(BuildOptions):
    """Options of ``pipelines videos``."""

    input: str = option(
        REQUIRED,
        "Videos: a folder with one folder of videos (or of folders of frames) per class, a glob, or a "
        "manifest (.csv, .tsv, .json, .jsonl); " + _URLS,
        metavar="PATH",
    )
    dataset: DatasetOptions = group(DatasetOptions, "", omit=_OF_DASHCAM)


@dataclass(frozen=True, kw_only=True)
class DashcamOptions(BuildOptions):
    """Options of ``pipelines dashcam``."""

    input: str = option(
        REQUIRED,
        "Footage: with --annotation, a folder of folders of frames; with --telemetry, a folder of videos, a "
        "glob or a video; with --no_images, the same of telemetry files; " + _URLS,
        metavar="PATH",
    )
    layout: Layout | None = option(
        None,
        "Public dataset in --input, whose flags are filled in where they are not given",
        metavar="NAME",
    )


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(PipelineOptions):
    """Options of ``pipelines predict``."""

    model: str = option(
        REQUIRED, "Run folder of the trainer, or the model it exported", metavar="RUN"
    )
    input: str = option(
        REQUIRED,
        "Footage: a video; a folder of videos or of folders of frames, at any depth; a glob; or a manifest "
        "(.csv, .tsv, .json, .jsonl). With --live, a camera or a stream",
        metavar="PATH",
    )
    output: str = option(
        REQUIRED,
        "File of the predictions: .jsonl (an object per row), .csv, .parquet, or .txt (a value per row)",
        metavar="FILE",
    )
    trust_model: bool = option(
        False,
        "Load a model that other users may have written, or that lies on an object store. A SavedModel can "
        "read and write files like a program",
    )
    overlay: str | None = option(
        None,
        "Folder to write the footage to with the predictions drawn on it",
        default_text="nothing is drawn",
        metavar="DIR",
    )
    live: bool = option(
        False,
        f"Predict {_CAMERA} while it lasts: each row is printed and written as it comes, and sequences are "
        "dropped rather than delayed",
    )
    per: Literal["sequence", "frame", "source", "segment"] = option(
        "sequence",
        "What a row is of: a sequence; a frame of the footage; a source, with the mean of its sequences; or "
        "a segment, in which a class is shown without a pause",
    )
    every_frame: bool = option(False, "The same as --per frame")
    segments: bool = option(False, "The same as --per segment")
    columns: tuple[str, ...] | None = option(
        None,
        "Columns of the table, such as id={source},speed: NAME, or NAME=TEMPLATE of fields in braces",
        default_text="all fields",
        commas=False,
        metavar="NAME[={FIELD}]",
    )
    fill: str | None = option(
        None,
        "Values of a row without an answer: mean (of the training set), zero or a number",
        default_text="empty",
        metavar="mean|zero|X",
    )
    join: Literal["mean", "last"] | None = option(
        None,
        "Which sequences give a frame its values: all that cover it (mean), or the one that ends at it, or "
        "soonest after it (last)",
        default_text="last for models of a sequence's last frame, else mean",
    )
    smooth: float = option(
        0.0, "Width of a moving average over frames; 0 for none", min=0, unit="s", metavar="SECONDS"
    )
    min_score: float = option(0.0, "Lowest mean probability of a segment", min=0, max=1)
    min_seconds: float = option(
        0.0, "Shortest duration of a segment", min=0, unit="s", metavar="SECONDS"
    )
    stride: int | None = option(
        None,
        "Frames from the start of one window to the start of the next",
        default_text="1 for rows by frame, else the stride of the training set",
        min=1,
    )
    telemetry: str | None = option(
        None,
        "Telemetry file of a video, such as '{stem}.csv': the signals of a model that takes some, and the "
        "targets that --overlay shows beside the predictions",
        default_text="the --telemetry of the training set for signals, else none",
        metavar="TEMPLATE",
    )
    batch_size: int = option(16, "Sequences that the model predicts at a time", min=1)
    footage: FootageOptions = group(FootageOptions, "footage")
    run: RunOptions = group(RunOptions, "running", omit=("overwrite", "dry_run"))

    def check_combination(self) -> None:
        """Checks that the output has a name, and that each option has an effect."""
        self.require(bool(self.output), "--output must name a file, got an empty name")
        kinds = {self.per} - {"sequence"}
        kinds |= {"frame"} if self.every_frame else set()
        kinds |= {"segment"} if self.segments else set()
        self.require(
            len(kinds) < 2, f"--output has rows of one kind, got {', '.join(sorted(kinds))}"
        )
        names = ["smooth", "join"] if not self.by_frame else []
        names += ["min_score", "min_seconds"] if self.rows != "segment" else []
        if changed := self.changed(names):
            needed = (
                "--segments"
                if names == ["min_score", "min_seconds"]
                else "--every_frame or --segments"
            )
            raise self.error(f"{self.typed(changed)} needs {needed}")
        if self.fill not in (None, "mean", "zero"):
            try:
                is_number = math.isfinite(float(str(self.fill)))
            except ValueError:
                is_number = False
            self.require(is_number, f"--fill must be mean, zero or a number, got {self.fill!r}")
        is_stream = re.match("(rtsps?|https?)://", self.input, re.IGNORECASE)
        is_live = is_stream or re.fullmatch("[0-9]{1,3}|/dev/video.+", self.input)
        if self.live:
            self.require(bool(is_live), f"--live needs {_CAMERA} as --input, got {self.address}")
            self.require(
                self.output.endswith((".jsonl", ".csv")) and "://" not in self.output,
                f"--live needs a local .jsonl or .csv as --output, which can grow, got {self.output}",
            )
            fixed = ("per", "every_frame", "segments", "fill", "telemetry", "batch_size")
            names = self.changed(fixed) + self.footage.changed()
            names += self.run.changed(set(vars(self.run)) - {"decode_timeout"})
            self.require(
                not names, f"--{', --'.join(names)} has no effect with --live: leave it out"
            )
        elif is_live and (is_stream or not os.path.exists(self.input)):
            raise self.error(f"--input {self.address} is a camera or a stream, and needs --live")

    @property
    def address(self) -> str:
        """The input as it may be shown: a URL without user, password and query."""
        scheme, is_url, rest = self.input.partition("://")
        return f"{scheme}{is_url}{re.split('[?#]', rest.rpartition('@')[2])[0]}"

    @property
    def rows(self) -> Literal["sequence", "frame", "source", "segment"]:
        """The kind of the rows, whichever flag names it."""
        return "frame" if self.every_frame else "segment" if self.segments else self.per

    @property
    def by_frame(self) -> bool:
        """True if rows are made from the answers for frames."""
        return self.rows in ("frame", "segment")

    @property
    def window_stride(self) -> int | None:
        """The stride of the windows; None for that of the training set."""
        return 1 if self.stride is None and self.rows == "frame" else self.stride


@dataclass(frozen=True, kw_only=True)
class ShowOptions(PipelineOptions):
    """Options of ``pipelines show``."""

    tfrecords: str = option(REQUIRED, "Folder of the dataset; " + _URLS, metavar="DIR")
    page: str | None = option(
        None,
        "Local file for a page to browse the sequences: filter, sort, play, and find their bytes",
        metavar="FILE.html",
        default_text="none",
    )


@dataclass(frozen=True, kw_only=True)
class MergeOptions(PipelineOptions):
    """Options of ``pipelines merge``."""

    tfrecords: tuple[str, ...] = option(
        REQUIRED,
        "Folders of the datasets, or their URLs; the flag itself may be left out",
        metavar="DIR",
        commas=False,
        leads=True,
    )
    output: str = option(REQUIRED, "Folder of the new dataset, or its URL", metavar="DIR")
    prefix_sources: bool = option(
        False,
        "Put the name of its dataset's folder before each source and group, since equal names mean different "
        "footage",
    )
    overwrite: bool = option(False, "Replace another dataset in --output")

    def check_combination(self) -> None:
        """Checks that there are several datasets."""
        self.require(
            len(set(self.tfrecords)) == len(self.tfrecords) > 1,
            f"--tfrecords must name at least two different datasets, got {' '.join(self.tfrecords)}",
        )


@dataclass(frozen=True, kw_only=True)
class AdoptOptions(PipelineOptions):
    """Options of ``pipelines adopt``."""

    tfrecords: str = option(
        REQUIRED, "Folder of TFRecords that another program wrote", metavar="DIR"
    )
    rewrite: str | None = option(
        None,
        "Folder of a new dataset that the records are copied into. Other keys than MediaSequence's, raw "
        "pixels, compressed files and files in folders need it",
        default_text="the records are described where they are",
        metavar="DIR",
    )
    key_map: tuple[tuple[str, str], ...] = option(
        (),
        "Their keys by ours: image, label, text (class names), value (targets), time, group, source, id, or "
        "a key such as SPEED/feature/floats. blob/* stands for blob/0, blob/1 and so on; shape is their key "
        "that holds the shape of raw pixels",
        default_text="MediaSequence's keys, or what features.json of TFDS says",
        flag="map",
        parse=_parse_pairs,
        metavar="OURS=THEIRS,...",
        expected="OURS=THEIRS,... such as image=frames,label=y",
    )
    shape: tuple[int, ...] | None = option(
        None,
        "Frames, height, width and channels of raw uint8 pixels, such as 16x64x64x3; PNG keeps them",
        default_text="images are JPEG or PNG files",
        parse=lambda text: tuple(map(int, text.split("x"))),
        metavar="TxHxWxC",
        expected="four whole numbers such as 16x64x64x3",
    )
    first_label: int = option(0, "Index of their first class, such as 1", min=0, max=1000)
    class_names: str | None = option(
        None,
        "File with one class name per line, in the order of their indices",
        default_text="those in the records",
        metavar="FILE",
    )
    split_globs: tuple[tuple[str, str], ...] = option(
        (),
        "Files of a split, such as test='*_eval*'. Files that fit none are left out",
        default_text="by the names of files and folders",
        flag="split",
        parse=_parse_pairs,
        metavar="SPLIT=GLOB,...",
        expected="SPLIT=GLOB,... such as train='a*',test='b*'",
    )
    spec: str | None = option(
        None,
        "JSON file with the spec of the records, as in a dataset_info.json",
        default_text="the spec of most records",
        metavar="FILE.json",
    )
    num_frames: int | None = option(
        None, "Frames per sequence", default_text="the median of the records", min=1
    )
    size: tuple[int, int] | None = option(
        None, "Height and width of frames in pixels", default_text="the most frequent size", min=1
    )
    frame_rate: Fraction | None = option(
        None,
        "Frames per second of the records, which `predict` samples footage with",
        default_text="as they state",
        **RATE,
    )
    run: RunOptions = group(
        RunOptions,
        "running",
        omit=("max_failure_rate", "decode_timeout", "staging_size", "dry_run"),
    )


@dataclass(frozen=True, kw_only=True)
class TelemetryListing(PipelineOptions):
    """Options of ``pipelines telemetry``."""

    input: str = option(
        REQUIRED,
        "Video with telemetry in it; the flag itself may be left out",
        metavar="FILE",
        leads=True,
    )
    csv: str | None = option(
        None, "File for all rows, as CSV", default_text="none is written", metavar="FILE.csv"
    )

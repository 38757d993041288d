"""Options of each verb: what its command takes as flags, and its Python call as keywords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.options.base import PipelineOptions
from pipelines.options.dataset import DatasetOptions, RunOptions
from tfrecords_schema.options import REQUIRED, group, option

_URLS = "local, or a URL (s3://, gs://, hdfs://)"
_OF_DASHCAM = ("label_names", "label_at", "class_column", "annotation", "telemetry")


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


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(PipelineOptions):
    """Options of ``pipelines predict``."""

    model: str = option(
        REQUIRED, "Run folder of the trainer, or the model it exported", metavar="RUN"
    )
    input: str = option(
        REQUIRED,
        "Footage: a video; a folder of videos or of folders of frames, at any depth; a glob; or a manifest "
        "(.csv, .tsv, .json, .jsonl)",
        metavar="PATH",
    )
    output: str = option(
        REQUIRED, "File of the predictions, with one JSON object per sequence", metavar="FILE.jsonl"
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
    stride: int | None = option(
        None,
        "Frames from the start of one window to the start of the next",
        default_text="the stride of the training set",
        min=1,
    )
    telemetry: str | None = option(
        None,
        "Telemetry file of a video, for a model with signals, such as '{stem}.csv'",
        default_text="the --telemetry of the training set",
        metavar="TEMPLATE",
    )
    batch_size: int = option(16, "Sequences that the model predicts at a time", min=1)
    run: RunOptions = group(RunOptions, "running", omit=("overwrite", "dry_run"))

    def check_combination(self) -> None:
        """Checks that the output has a name."""
        self.require(bool(self.output), "--output must name a file, got an empty name")


@dataclass(frozen=True, kw_only=True)
class ShowOptions(PipelineOptions):
    """Options of ``pipelines show``."""

    tfrecords: str = option(REQUIRED, "Folder of the dataset; " + _URLS, metavar="DIR")


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
        REQUIRED, "Folder of TFRecords that hold SequenceExamples", metavar="DIR"
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

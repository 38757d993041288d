"""The thresholds of the checks, and the options of a validation."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.errors import UserError
from pipelines.options.base import PipelineOptions
from pipelines.options.dataset import RunOptions
from tfrecords_schema import storage
from tfrecords_schema.options import REQUIRED, group, option
from tfrecords_schema.paths import UrlError, join

FILE_NAME = "validation.json"
"""Name of the file with thresholds in a dataset's folder."""
_MAX_BITS = 16


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The numbers that checks compare with. The defaults report nothing on correct footage.

    Levels of a picture are 0 to 255.

    Attributes:
        timestamp_tolerance: rounding of timestamps in containers (1 ms in WebM, 1/90 ms in MPEG), in seconds.
        rate_tolerance: fraction by which ``image/frame_rate`` may differ from the rate of the timestamps.
        gap_factor: a step between two frames of more than this many usual steps is a gap.
        jitter: average difference of steps from the usual one, as a fraction of it, that is still even.
        black_mean: a flat picture with a mean level below this is black.
        flat_std: a picture is flat if the standard deviation of every channel is below this, in levels.
        frozen_fraction: fraction of a sequence for which one picture may stay the same.
        jump_levels: a frame that differs by more levels from both its neighbours, which are alike,
            is foreign.
        duplicate_bits: pictures whose 64-bit hashes differ in at most this many bits are compared.
        duplicate_correlation: compared pictures with at least this correlation show the same.
        outlier_scale: robust standard deviations from the median beyond which a value is an outlier.
        skew: Jensen-Shannon divergence of two label distributions, 0 to 1, allowed beyond that of chance.
        imbalance: allowed ratio of the records of the most and the least frequent class.
        shard_ratio: allowed ratio of the bytes of a split's largest and median shard.
        shuffle: required changes of class from source to source, as a fraction of those in a shuffled order.
        drift: standard deviations of the old dataset by which a mean may differ from the old one.
        source_records: number of records that ``--sources`` compares with their sources.
        statistics_tolerance: difference of target statistics in ``dataset_info.json`` from the records, which
            hold float32, as a fraction of the target's scale.
    """

    timestamp_tolerance: float = 0.002
    rate_tolerance: float = 0.1
    gap_factor: float = 3.0
    jitter: float = 0.3
    black_mean: float = 24.0
    flat_std: float = 2.0
    frozen_fraction: float = 0.5
    jump_levels: float = 12.0
    duplicate_bits: int = 8
    duplicate_correlation: float = 0.97
    outlier_scale: float = 8.0
    skew: float = 0.1
    imbalance: float = 100.0
    shard_ratio: float = 4.0
    shuffle: float = 0.5
    drift: float = 0.5
    source_records: int = 100
    statistics_tolerance: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"{name} must be a number, got {value!r}")
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be finite and not negative, got {value}")
        if self.duplicate_bits not in range(_MAX_BITS + 1):
            raise UserError(f"duplicate_bits must be 0 to {_MAX_BITS}, got {self.duplicate_bits}")


DEFAULTS = Thresholds()


def load_thresholds(dataset: str, file: str | None = None) -> Thresholds:
    """Returns the thresholds of ``file``, or of the dataset's own file if it has one.

    Names that it leaves out are as in `DEFAULTS`. A `UserError` says what is wrong with the file.
    """
    path = join(dataset, FILE_NAME) if file is None else file
    try:
        text = storage.read_bytes(path).decode()
    except UrlError as error:
        raise UserError(f"--tfrecords: {error}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if file is None:
            return DEFAULTS
        raise UserError(f"--thresholds: the file {file} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise UserError(
                f'must be a JSON object such as {{"skew": 0.2}}, got {json.dumps(fields):.80}'
            )
        known = [field.name for field in dataclasses.fields(Thresholds)]
        if unknown := [name for name in fields if name not in known]:
            raise UserError(f"unknown threshold {unknown[0]!r}; known are {', '.join(known)}")
        return Thresholds(**fields)
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ValidationOptions(PipelineOptions):
    """Options of ``pipelines validate``."""

    tfrecords: str = option(REQUIRED, "Folder of the dataset, or its URL", metavar="DIR")
    sources: str | None = option(
        None,
        "Folder that the dataset was built from, to compare records with",
        default_text="records are not compared",
        metavar="DIR",
    )
    against: str | None = option(
        None,
        "Folder of an older dataset, to look for drift from it",
        default_text="no comparison",
        metavar="DIR",
    )
    report: str | None = option(
        None, "HTML file to write a report to", default_text="no report", metavar="FILE.html"
    )
    json: str | None = option(
        None,
        "JSON file to write the findings to, for programs",
        default_text="no file",
        metavar="FILE.json",
    )
    thresholds: Thresholds = option(
        DEFAULTS,
        "JSON file with the numbers that checks compare with",
        default_text=f"{FILE_NAME} in the dataset's folder, if there is one",
        metavar="FILE.json",
    )
    fail_on: Literal["error", "warning"] = option(
        "error", "Mildest level of a finding that fails the validation"
    )
    seed: int = option(
        0, "Seed that draws the records shown in the report", min=-(2**63), max=2**63 - 1
    )
    run: RunOptions = group(
        RunOptions,
        "running",
        omit=("max_failure_rate", "decode_timeout", "staging_size", "overwrite", "dry_run"),
    )

    def check_combination(self) -> None:
        """Checks that the sources are there, and that the files can be written."""
        if self.sources is not None and not Path(self.sources).is_dir():
            raise UserError(
                f"--sources must be the folder that the dataset was built from, but {self.sources} is not a "
                "folder"
            )
        for flag, file in (("--report", self.report), ("--json", self.json)):
            if file is None:
                continue
            if Path(file).is_dir():
                raise UserError(f"{flag} must be a file to write, but {file} is a folder")
            if not Path(file).resolve().parent.is_dir():
                raise UserError(f"{flag}: the folder of {file} does not exist; make it first")

"""The numbers that decide between right and suspicious, and the small file a dataset may carry them in."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pipelines.errors import UserError
from pipelines.options.dataset import RunOptions
from pipelines.validation.findings import LEVELS, Level
from tfrecords_schema import storage
from tfrecords_schema.store_clients import UrlError, is_url

FILE_NAME = "validation.json"
"""Of the file with thresholds in a dataset's folder."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What checks compare with; the defaults raise nothing on footage that is all right.

    Levels of a picture go from 0 to 255.

    Attributes:
        timestamp_tolerance: seconds by which containers round presentation times (1 ms in WebM, 1/90 ms
            in MPEG), and readers of them a little more.
        rate_tolerance: fraction by which ``image/frame_rate`` may differ from what the timestamps show.
        gap_factor: a step between two frames of more than so many usual ones is a gap.
        jitter: fraction of the usual step by which the others may differ from it, on average.
        black_mean: a flat picture whose mean level is below this is black.
        flat_std: a picture whose every channel's standard deviation, in levels, is below this is flat.
        frozen_fraction: fraction of a sequence for which one picture may stand still.
        jump_levels: a frame that differs by more levels from both its neighbours, on average, does not
            belong between them, when they are alike.
        duplicate_bits: of 64 of their hashes in which two pictures may differ to be looked at as one.
        duplicate_correlation: of two pictures, laid over each other, from which on they show the same.
        outlier_scale: robust standard deviations from the median beyond which a value is an outlier.
        skew: Jensen-Shannon divergence of two label distributions, 0 to 1, that is still all right, beyond
            what chance gives so few sources.
        imbalance: times that the most frequent class may have the records of the least frequent one.
        shard_ratio: times that a split's largest shard may have the bytes of its median one.
        shuffle: fraction of the changes of class from source to source, of those that a shuffled order
            has, which a split must have.
        drift: standard deviations (of the old dataset) by which a mean may differ from the old one's.
        source_records: records that ``--sources`` compares with what they were made of.
        statistics_tolerance: fraction of a target's scale by which its statistics in
            ``dataset_info.json`` may differ from the records, which hold float32.
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
        if self.duplicate_bits != int(self.duplicate_bits) or self.duplicate_bits > 16:
            raise UserError(f"duplicate_bits must be 0 to 16, got {self.duplicate_bits}")


DEFAULTS = Thresholds()


def load_thresholds(dataset: str, file: str | None = None) -> Thresholds:
    """The thresholds of ``file``; without one, those that the dataset carries, if any.

    Args:
        dataset: the dataset's folder, which may hold a `FILE_NAME`.
        file: a file like it; a JSON object of names and numbers. What it leaves out is as in `DEFAULTS`.

    Raises:
        UserError: when ``file`` is not there, is no such object, or names a threshold that is none.
    """
    path = os.path.join(dataset, FILE_NAME) if file is None else file
    try:
        data = storage.read_bytes(path) if is_url(path) else Path(path).read_bytes()
        text = data.decode()
    except UrlError as error:
        raise UserError(f"--tfrecords: {error}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if file is None:
            return DEFAULTS
        raise UserError(f"--thresholds: there is no file {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    try:
        return parse_thresholds(json.loads(text))
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: {error}") from error


def parse_thresholds(fields: Any) -> Thresholds:
    """Thresholds from names and numbers.

    Raises:
        UserError: for anything else.
    """
    if not isinstance(fields, dict):
        raise UserError(
            f'must be a JSON object such as {{"skew": 0.2}}, got {json.dumps(fields):.80}'
        )
    known = [field.name for field in dataclasses.fields(Thresholds)]
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise UserError(f"unknown threshold {unknown[0]!r}; known are {', '.join(known)}")
    return Thresholds(**fields)


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """How a dataset is validated.

    Attributes:
        tfrecords: the dataset's folder.
        sources: the folder that the dataset was built from, to compare records with; None for not at all.
        against: the folder of an older dataset to compare it with; None for none.
        report: where the HTML report is written; None for none.
        json: where the result is written as JSON; None for nowhere.
        fail_on: the mildest level that fails.
        seed: of the draw of records that the report shows.
        run: workers and Beam's flags.
        thresholds: of the checks.
    """

    tfrecords: str
    sources: str | None = None
    against: str | None = None
    report: str | None = None
    json: str | None = None
    fail_on: Level = "error"
    seed: int = 0
    run: RunOptions = field(default_factory=RunOptions)
    thresholds: Thresholds = DEFAULTS

    def __post_init__(self) -> None:
        if self.fail_on not in get_args(Level):
            raise UserError(f"--fail_on must be one of {', '.join(LEVELS)}, got {self.fail_on}")
        if not -(2**63) <= self.seed < 2**63:
            raise UserError(f"--seed must fit into 64 bits, got {self.seed}")
        if self.sources is not None and not Path(self.sources).is_dir():
            raise UserError(
                f"--sources must be the folder that the dataset was built from, and {self.sources} is none"
            )
        for flag, path in (("--report", self.report), ("--json", self.json)):
            if path is not None:
                _check_writable(flag, Path(path))


def _check_writable(flag: str, path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{flag} must be a file to write, {path} is a folder")
    if not path.resolve().parent.is_dir():
        raise UserError(f"{flag}: the folder of {path} does not exist; make it first")

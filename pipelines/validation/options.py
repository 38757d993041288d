"""How a dataset is validated: frozen options that check themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from pipelines.errors import UserError
from pipelines.options import RunOptions
from pipelines.validation.findings import LEVELS, Level
from pipelines.validation.thresholds import DEFAULTS, Thresholds


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

"""The command line's flags of ``pipelines predict``, and the options they become."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.options.checks import check
from pipelines.options.dataset import RunOptions
from pipelines.options.flags import add_work_flags


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """What is predicted, with which model, and where the predictions go.

    Attributes:
        model: a run folder of the trainer, or the SavedModel it exported.
        input: footage.
        output: file of the predictions, a JSON object a line.
        overlay: folder of the footage with the predictions drawn on it; None draws nothing.
        stride: frames from one window's start to the next one's; None is the training set's.
        telemetry: where a video's telemetry lies, for a model with signals; None is the training set's.
        batch_size: sequences the model sees at a time.
        run: how the work is done.
    """

    model: str
    input: str
    output: str
    overlay: str | None = None
    stride: int | None = None
    telemetry: str | None = None
    batch_size: int = 16
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        check(bool(self.output), "--output must name a file", "an empty name")
        check(self.stride is None or self.stride >= 1, "--stride must be at least 1", self.stride)
        check(self.batch_size >= 1, "--batch_size must be at least 1", self.batch_size)


def add_prediction_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `prediction_options` reads."""
    add = parser.add_argument
    add("--model", required=True, metavar="EXPORT", help="a run folder of `trainer`, or its export")
    add(
        "--input",
        required=True,
        help="a video; a folder of videos or of folders of frames, at any depth; a glob; or a manifest "
        "(.csv, .jsonl)",
    )
    add("--output", required=True, metavar="FILE.jsonl", help="predictions, a line a sequence")
    add("--overlay", metavar="DIR", help="write the footage with the predictions drawn on it")
    add(
        "--stride",
        type=int,
        help="frames from one window's start to the next one's; None is the training set's",
    )
    add(
        "--telemetry",
        metavar="TEMPLATE",
        help="a video's telemetry, for a model with signals; None is the training set's",
    )
    add_work_flags(parser).add_argument(
        "--batch_size",
        type=int,
        default=PredictionOptions.batch_size,
        help="sequences the model sees at a time",
    )


def prediction_options(flags: argparse.Namespace, beam_args: Sequence[str]) -> PredictionOptions:
    """The options that the flags say."""
    return PredictionOptions(
        model=flags.model,
        input=flags.input,
        output=flags.output,
        overlay=flags.overlay,
        stride=flags.stride,
        telemetry=flags.telemetry,
        batch_size=flags.batch_size,
        run=RunOptions(
            workers=flags.workers,
            max_failure_rate=flags.max_failure_rate,
            decode_timeout=flags.decode_timeout,
            staging_size=flags.staging_size,
            beam_args=tuple(beam_args),
        ),
    )

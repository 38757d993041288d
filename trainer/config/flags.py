"""Options of the trainer's commands, and the parsers of their flags."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tfrecords_schema.command_line import Parser, Program, normalize
from tfrecords_schema.options import REQUIRED, group, make_options, option
from trainer.config.options import TrainerOptions
from trainer.config.presets import PRESETS, Preset
from trainer.config.run_folder import saved_values
from trainer.config.training import TrainingConfig
from trainer.errors import ConfigError

_FOLDERS = "Folder of the dataset, or folders of several that are read as one"
_DATASETS = {"metavar": "DIR", "commas": False, "distinct": True, "expected": "different folders"}


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainerOptions):
    """Options of ``trainer``: where to train, and how."""

    tfrecords: tuple[str, ...] = option(REQUIRED, _FOLDERS, **_DATASETS)
    spec: str | None = option(
        None,
        "JSON file with the spec of records that another program wrote, as in a dataset_info.json, which "
        "is written for them; see also pipelines adopt",
        metavar="FILE.json",
    )
    output: str | None = option(
        None, "New folder for the run", default_text="runs/NAME-TIMESTAMP", metavar="RUN"
    )
    resume: bool = option(
        False,
        "Continue a run from its last checkpoint, with the flags that it was begun with. Only --epochs, "
        "--patience, --checkpoint_minutes and --progress may differ. Without a folder, the run in --output",
        metavar="RUN",
    )
    preset: Preset | None = option(
        None, "Values of options to start from, which flags override", default_text="no preset"
    )
    config: TrainingConfig = group(TrainingConfig, "training")


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(TrainerOptions):
    """Options of the verbs that score finished runs."""

    split: str | None = option(
        None,
        "Split to evaluate on",
        default_text="the first of test, validation and train that has records",
    )
    report: str | None = option(
        None, "HTML file to write a report to", default_text="no report", metavar="FILE"
    )
    batch_size: int = option(16, "Sequences per batch", min=1)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ScoringOptions):
    """Options of ``trainer evaluate``."""

    model: str = option(REQUIRED, "Folder of a finished run", metavar="RUN")
    tfrecords: tuple[str, ...] = option(REQUIRED, _FOLDERS, **_DATASETS)
    output: str | None = option(
        None, "JSON file to write the metrics to", default_text="no file", metavar="FILE"
    )
    eval_clips: int | None = option(
        None,
        "Clips of each sequence over which predictions are averaged, for a model that takes fewer frames "
        "than the records hold",
        default_text="as in training",
        min=1,
    )
    ignore_errors: bool | None = option(
        None, "Skip and count damaged records", default_text="as in training"
    )


@dataclass(frozen=True, kw_only=True)
class CompareOptions(ScoringOptions):
    """Options of ``trainer compare``."""

    runs: tuple[str, ...] = option(
        REQUIRED,
        "Folders of two finished runs, A and B",
        **{**_DATASETS, "metavar": "RUN", "leads": True, "expected": "two different folders"},
    )
    tfrecords: tuple[str, ...] | None = option(
        None, _FOLDERS, default_text="the dataset that both were trained on", **_DATASETS
    )

    def check_combination(self) -> None:
        """Checks that there are two runs."""
        names = " ".join(self.runs)
        self.require(len(self.runs) == 2, f"--runs must be two different folders, got {names}")


PortableFormat = Literal["onnx", "litert"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions(TrainerOptions):
    """Options of ``trainer export``."""

    model: str = option(REQUIRED, "Folder of a finished run", metavar="RUN")
    format: PortableFormat = option(
        REQUIRED, "onnx for ONNX Runtime, litert (formerly TensorFlow Lite) for phones and boards"
    )
    output: str | None = option(
        None, "File to write", default_text="model.onnx or model.tflite in the run", metavar="FILE"
    )


def train_parser() -> Parser:
    """Returns the parser of a training's flags."""
    return Parser(
        TrainOptions,
        prog="trainer",
        description="Trains a CNN-LSTM on a dataset that pipelines built. Shapes, task, classes and "
        "statistics come from its dataset_info.json. trainer evaluate scores a finished run on a dataset, "
        "and trainer export writes it for other runtimes; see their --help.",
        example="trainer --tfrecords dataset --output run --epochs 20 --augment flip=0.5",
    )


def evaluate_parser() -> Parser:
    """Returns the parser of the flags of ``trainer evaluate``."""
    return Parser(
        EvaluateOptions,
        prog="trainer evaluate",
        description="Scores a finished run on a dataset with the same spec, beside the baseline.",
        example="trainer evaluate --model run --tfrecords dataset --report report.html",
    )


def compare_parser() -> Parser:
    """Returns the parser of the flags of ``trainer compare``."""
    return Parser(
        CompareOptions,
        prog="trainer compare",
        description="Scores two finished runs on the same sequences, with intervals of their difference, and "
        "lists the options that differ.",
        example="trainer compare run-a run-b --report comparison.html",
    )


def export_parser() -> Parser:
    """Returns the parser of the flags of ``trainer export``."""
    return Parser(
        ExportOptions,
        prog="trainer export",
        description="Writes the model of a finished run, with its preprocessing, as one file for another "
        "runtime, after comparing its answers there with Keras's. Needs pip install 'reelbeam[export]'.",
        example="trainer export --model run --format onnx",
    )


PROGRAM = Program(
    "trainer",
    "Trains a CNN-LSTM on a dataset that pipelines built: trainer --tfrecords DIR [flags].\n"
    "See trainer --help for the flags of a training.",
    {
        "evaluate": "Scores a finished run on a dataset.",
        "compare": "Scores two finished runs on the same sequences.",
        "export": "Writes a finished run for ONNX Runtime or LiteRT.",
    },
    {
        "": train_parser,
        "evaluate": evaluate_parser,
        "compare": compare_parser,
        "export": export_parser,
    },
    ConfigError,
)


def parse_train(words: Sequence[str]) -> TrainOptions:
    """Returns the options of a training: where a flag is not given, those of a preset or of a resumed run."""
    run = _run_to_resume(words)
    saved = {} if run is None else {**saved_values(run), "output": run, "resume": True}
    values = train_parser().parse(words, known=saved)
    preset = PRESETS.get(values.get("preset"), {})  # type: ignore[arg-type]
    if run is not None:
        del values["resume"]  # the folder of the run
    return make_options(TrainOptions, {**saved, **preset, **values})


def _run_to_resume(words: Sequence[str]) -> str | None:
    """Returns the folder that ``--resume RUN`` names; None if it has no value, or is not among the words."""
    values = [word.partition("=")[2] for word in normalize(words) if word.startswith("--resume=")]
    values += [value for flag, value in itertools.pairwise(words) if flag == "--resume"]
    named = [value for value in values if value not in ("on", "off") and not value.startswith("--")]
    return named[-1] if named else None


def parse_evaluate(words: Sequence[str]) -> EvaluateOptions:
    """Returns the options of ``trainer evaluate``."""
    return make_options(EvaluateOptions, evaluate_parser().parse(words))


def parse_compare(words: Sequence[str]) -> CompareOptions:
    """Returns the options of ``trainer compare``."""
    return make_options(CompareOptions, compare_parser().parse(words))


def parse_export(words: Sequence[str]) -> ExportOptions:
    """Returns the options of ``trainer export``."""
    return make_options(ExportOptions, export_parser().parse(words))

"""The ``trainer`` command: trains, evaluates, compares, exports. TensorFlow is imported after all checks."""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tfrecords_schema import storage
from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.running import interruption
from tfrecords_schema.running.scratch import hold_temporary_files, remove_scratch
from tfrecords_schema.running.surroundings import use_utf8
from tfrecords_schema.running.terminal import (
    outlive_terminal,
    printable,
    without_notes_of_tensorflow,
)
from tfrecords_schema.spec import SpecError, load_spec
from trainer.config.dataset import (
    check_compatible,
    check_separate,
    check_trainable,
    default_split,
    describe_dataset,
    folders_of,
    load_dataset,
    shard_paths,
)
from trainer.config.flags import (
    PROGRAM,
    CompareOptions,
    EvaluateOptions,
    ExportOptions,
    TrainOptions,
    parse_compare,
    parse_evaluate,
    parse_export,
    parse_train,
)
from trainer.config.hosts import is_chief
from trainer.config.run_folder import (
    RunFolder,
    new_run,
    open_run,
    reading_of,
    resumed_run,
    saved_values,
    write_json,
)
from trainer.errors import ConfigError, TrainerError

_log = logging.getLogger(__name__)

_FAILED, _INTERRUPTED = 2, 130
"""Exit statuses other than 0, as those of the ``pipelines`` program."""


@dataclass
class _Command:
    """The command line, and the run that it trains.

    Attributes:
        words: after the program's name.
        folder: of the run, once it is known; None for an evaluation.
    """

    words: list[str]
    folder: RunFolder | None = None

    @property
    def again(self) -> str:
        """A sentence that says how to continue after an interruption."""
        if self.folder is None or not self.folder.config.is_file():
            return "Type the same command again"
        progress = self.folder.saved_progress()
        held = "no checkpoint yet"
        if progress is not None:
            held = f"the checkpoint of epoch {progress['epoch']}"
            held += f" and {progress['step']} steps" if progress["step"] else ""
        path = os.fspath(self.folder.path)
        if progress is not None and self.folder.export.is_dir():
            held += f", and the model of epoch {progress.get('kept_epoch')} for pipelines predict"
        return f"{path} holds {held}. Continue with: {shlex.join(['trainer', '--resume', path])}"

    def abandon(self) -> NoReturn:
        """Ends the program at once, after an interruption."""
        interruption.lift_time_limit()
        _report(f"interrupted. {self.again}", _INTERRUPTED)
        _end(_INTERRUPTED)


def run() -> int:
    """The ``trainer`` program: `main`, with names in UTF-8 whatever the locale."""
    use_utf8()
    outlive_terminal()
    command = _Command(sys.argv[1:])
    interruption.install_handlers(command.abandon)
    with suppress(OSError):  # the code that needs a temporary file reports it
        hold_temporary_files()
    status = _run(command)
    if interruption.is_received():
        _end(status)  # TensorFlow's threads may still be running
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    return _run(_Command(list(sys.argv[1:] if argv is None else argv)))


def _run(command: _Command) -> int:
    words = command.words
    verb = words[0] if words and words[0] in PROGRAM.verbs else ""
    try:
        with _log_to_stdout():
            if verb == "evaluate":
                _evaluate(parse_evaluate(words[1:]))
            elif verb == "compare":
                _compare(parse_compare(words[1:]))
            elif verb == "export":
                _export(parse_export(words[1:]))
            elif (said := PROGRAM.answer(words)) is not None:
                _log.info("%s", said)
                return 0 if words else _FAILED
            else:
                _train(parse_train(words), command)
    except (Exception, KeyboardInterrupt) as error:
        # TensorFlow may turn the interruption into an error of its own.
        if isinstance(error, KeyboardInterrupt) or interruption.is_received():
            interruption.lift_time_limit()
            return _report(f"interrupted. {command.again}", _INTERRUPTED)
        if isinstance(error, ConfigError):
            return _report(f"{error} (see {f'trainer {verb}'.strip()} --help)", _FAILED)
        if isinstance(error, OSError):
            place = error.filename or "system"
            reason = error.strerror or error
            return _report(f"{place}: {reason}. {command.again}", _FAILED)
        if isinstance(error, TrainerError | DatasetInfoError | CorruptRecordError):
            skip = ". Build the dataset again, or give --ignore_errors on to skip such records"
            is_record = isinstance(error, CorruptRecordError)
            return _report(f"{error}{skip if is_record else ''}", _FAILED)
        raise
    return 0


def _end(status: int) -> NoReturn:
    remove_scratch()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _train(options: TrainOptions, command: _Command) -> None:
    directory, config = folders_of(options.tfrecords), options.config
    if options.spec is not None:
        options.require(len(directory) == 1, f"--spec describes one dataset, got {directory}")
        _adopt(directory[0], options.spec)
    for data in directory:
        if not (Path(data) / FILE_NAME).exists() and any(Path(data).glob("*tfrecord*")):
            raise TrainerError(
                f"{data} holds TFRecords and no {FILE_NAME}. If another program wrote them, describe them "
                f"by `pipelines adopt --tfrecords {data}`, or give --spec. Otherwise finish the build"
            )
    info = load_dataset(directory)
    config.check_for(info)
    check_trainable(directory, info, allow_empty_classes=config.allow_empty_classes)
    if options.output is not None and not is_chief(config.distribute):
        folder = RunFolder(Path(options.output))  # the chief writes to it, and may have begun
    elif options.resume:
        folder = resumed_run(options.output, info, config.to_json())
    else:
        folder = new_run(options.output, info.name)
    command.folder = folder
    note = check_separate(directory)
    if is_chief(config.distribute):
        _log.info("%s", "\n".join([*describe_dataset(directory, info), *filter(None, [note])]))
    _prepare_tensorflow()
    from trainer.training.train import train

    train(directory, folder, config)
    if folder.export.is_dir() and info.spec.image is not None and is_chief(config.distribute):
        words = ["pipelines", "predict", "--model", os.fspath(folder.path)]
        _log.info(
            "next: %s", shlex.join([*words, "--input", "FOOTAGE", "--output", "predictions.csv"])
        )


def _adopt(directory: str, spec_file: str) -> None:
    """Describes records that another program wrote; refuses another description than they have already."""
    try:
        spec = load_spec(spec_file)
    except OSError as error:
        raise ConfigError(
            f"--spec must be a file that describes the records in JSON, and {spec_file} cannot be read: "
            f"{error.strerror}"
        ) from error
    except SpecError as error:
        raise ConfigError(str(error)) from error
    if (Path(directory) / FILE_NAME).is_file():
        sides = ("in --spec", f"in {FILE_NAME}")
        if differences := spec.differences(DatasetInfo.load(directory).spec, sides):
            raise TrainerError(
                f"--spec differs from the {FILE_NAME} in {directory}: "
                f"{'; '.join(differences):.3000}. Leave --spec out to use the file, or delete the file"
            )
        return
    from tfrecords_schema.foreign.files import AdoptError
    from tfrecords_schema.foreign.scan import adopt

    try:
        info = adopt(directory, spec)
    except AdoptError as error:
        raise TrainerError(str(error)) from error
    info.save(directory)
    _log.info("described: %s, by scanning the records", Path(directory) / FILE_NAME)


def _evaluate(options: EvaluateOptions) -> None:
    directory = folders_of(options.tfrecords)
    _check_writable(output=options.output, report=options.report)
    folder, trained_on = open_run(options.model)
    info = load_dataset(directory)
    check_compatible(options.model, trained_on, info)
    chosen = {"eval_clips": options.eval_clips, "ignore_errors": options.ignore_errors}
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    # Options of training only are reset, so that they cannot contradict the given ones.
    reading = dataclasses.replace(
        reading_of(folder),
        augment=None,
        mirrored_classes=None,
        balance_classes=False,
        cache_frames=None,
        **given,
    )
    reading.check_for(trained_on)
    split = options.split or default_split(info)
    shard_paths(directory, info, split)
    _prepare_tensorflow()
    from trainer.evaluation.baseline import describe_baseline
    from trainer.evaluation.evaluate import evaluate_run, scores_to_json
    from trainer.evaluation.score import describe_main_metric, format_score
    from trainer.report.page import write_report

    score = evaluate_run(
        options.model, directory, split=split, batch_size=options.batch_size, reading=reading
    )
    baseline = describe_baseline(trained_on)
    _log.info("baseline: %s", baseline)
    _log.info("%s\n%s", format_score(score), describe_main_metric(score))
    if options.output is not None:
        described = {"model": options.model, "tfrecords": str(directory), "baseline": baseline}
        write_json(Path(options.output), {**described, **scores_to_json([score])})
        _log.info("metrics     %s", options.output)
    if options.report is None:
        words = ["trainer", "evaluate", "--model", options.model, "--tfrecords", *options.tfrecords]
        words += ["--split", split, "--report", "report.html"]
        _log.info("next: %s", shlex.join(words))
    else:
        write_report(options.report, [score], model=options.model, directory=str(directory))
        _log.info("report      %s", options.report)


def _compare(options: CompareOptions) -> None:
    _check_writable(report=options.report)
    given = None if options.tfrecords is None else folders_of(options.tfrecords)
    trained_on = [open_run(run)[1] for run in options.runs]
    directory = given or folders_of(saved_values(options.runs[0])["tfrecords"])
    info = load_dataset(directory)
    split = options.split or default_split(info)
    for run, own in zip(options.runs, trained_on, strict=True):
        check_compatible(run, own, info)
    shard_paths(directory, info, split)
    shards = [own.splits[split].shards if split in own.splits else () for own in trained_on]
    counts = [f"{sum(shard.records for shard in own):,} sequences" for own in shards]
    if given is None and not shards[0] == shards[1] == info.splits[split].shards:
        same = "" if counts[0] != counts[1] else f", or {split} was built again since"
        raise TrainerError(
            f"the runs cannot be compared on {split}, which differs: that of {options.runs[0]} has "
            f"{counts[0]}, that of {options.runs[1]} has {counts[1]}, with other contents{same}. Give "
            "--tfrecords, a dataset on which both are scored and neither was trained"
        )
    _prepare_tensorflow()
    from trainer.evaluation.compare import compare_runs, format_comparison
    from trainer.report.page import render_comparison

    comparison = compare_runs(options.runs, directory, split=split, batch_size=options.batch_size)
    _log.info("%s", format_comparison(comparison))
    if options.report is not None:
        storage.write_bytes(options.report, render_comparison(comparison).encode())
        _log.info("report      %s", options.report)


def _export(options: ExportOptions) -> None:
    folder, trained_on = open_run(options.model)
    name = {"onnx": "model.onnx", "litert": "model.tflite"}[options.format]
    output = options.output or folder.path / name
    _check_writable(output=os.fspath(output))
    reading = reading_of(folder).evaluation(trained_on)
    _prepare_tensorflow()
    from trainer.models.portable import export_portable

    _log.info("%s", export_portable(folder, trained_on, reading, options.format, output))


def _check_writable(**files: str | None) -> None:
    """Checks, before the work is done, that its results can be written."""
    for flag, file in files.items():
        if file is not None and (Path(file).is_dir() or not Path(file).parent.is_dir()):
            raise ConfigError(f"--{flag} must be a file in a folder that exists, got {file}")


def _prepare_tensorflow() -> None:
    """Makes the settings that only count before the first import of TensorFlow and Keras."""
    # TensorFlow logs notes on the machine, some of them as "errors", that do not concern the run. Real
    # failures are raised in Python as well. A user who wants the notes sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The layers are Keras's, but reading and exporting are TensorFlow's.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with without_notes_of_tensorflow():
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise TrainerError(
            f"training needs TensorFlow, which is not installed ({error}): "
            "pip install 'reelbeam[trainer]'"
        ) from error


@contextmanager
def _log_to_stdout() -> Iterator[None]:
    """Prints the log of the package as plain lines; there is no other output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Printable("%(message)s"))
    logger = logging.getLogger("trainer")
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False  # absl gives the root logger a handler, which would repeat every line
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


class _Printable(logging.Formatter):
    """Formats lines in which names of classes and files cannot control the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        return printable(super().format(record))


def _report(error: object, code: int) -> int:
    message = printable(" ".join(str(error).split()))
    sys.stderr.write(f"trainer: error: {message}\n")
    return code

"""``trainer``: the flags, and what becomes of them. Nothing here waits for TensorFlow before it must."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SequenceSpec
from tfrecords_schema.surroundings import use_utf8
from trainer.config.dataset import check_compatible, check_trainable, default_split, shard_paths
from trainer.config.flags import (
    UsageError,
    config_from_args,
    evaluate_parser,
    parse_train,
    with_underscores,
)
from trainer.config.hosts import is_chief
from trainer.config.options import ConfigError
from trainer.config.run_folder import (
    RunFolder,
    new_run,
    open_run,
    reading_of,
    resumed_run,
    write_json,
)
from trainer.errors import TrainerError

_log = logging.getLogger(__name__)

_USAGE_EXIT = 2
_FAILURE_EXIT = 1
_INTERRUPTED_EXIT = 130


def run() -> int:
    """The ``trainer`` program: `main`, with names in UTF-8 whatever the locale."""
    use_utf8()
    return main()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a ``trainer`` command line and returns its exit code: 0, 1 for a failure, 2 for wrong flags."""
    words = with_underscores(sys.argv[1:] if argv is None else argv)
    try:
        with _log_to_stdout():
            if words[:1] == ["evaluate"]:
                _evaluate(evaluate_parser().parse_args(words[1:]))
            else:
                _train(parse_train(words))
    except (UsageError, ConfigError) as error:
        return _report(error, _USAGE_EXIT)
    except (TrainerError, DatasetInfoError, CorruptRecordError, OSError) as error:
        return _report(error, _FAILURE_EXIT)
    except KeyboardInterrupt:
        return _report("interrupted", _INTERRUPTED_EXIT)
    return 0


def _train(args: argparse.Namespace) -> None:
    config = config_from_args(args)
    if args.spec is not None:
        _adopt(args.tfrecords, args.spec)
    elif _holds_others_records(args.tfrecords):
        raise TrainerError(
            f"{args.tfrecords} holds TFRecords and no {FILE_NAME}: if others wrote them, `pipelines adopt "
            f"--tfrecords {args.tfrecords}` describes them, or give --spec; else finish building the dataset"
        )
    info = DatasetInfo.load(args.tfrecords)
    config.check_for(info)
    check_trainable(args.tfrecords, info)
    if args.output is not None and not is_chief(config.distribute):
        folder = RunFolder(Path(args.output))  # the chief writes to it, and may have begun
    elif args.resume:
        folder = resumed_run(args.output, info, config.to_json())
    else:
        folder = new_run(args.output, info.name)
    _prepare_tensorflow()
    from trainer.training.train import train

    train(args.tfrecords, folder, config)


def _holds_others_records(directory: str) -> bool:
    folder = Path(directory)
    return not (folder / FILE_NAME).exists() and any(folder.glob("*tfrecord*"))


def _adopt(directory: str, spec_file: str) -> None:
    """Describes records that others wrote, unless they are described already, in the same way.

    Raises:
        TrainerError: when they are described in another way, or cannot be.
    """
    try:
        spec = SequenceSpec.from_json(json.loads(Path(spec_file).read_bytes()))
    except OSError as error:
        raise UsageError(
            f"--spec must be a file with the JSON of a sequence spec, and {spec_file} cannot be read: "
            f"{error.strerror}"
        ) from error
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"--spec {spec_file} must hold the JSON of a sequence spec: {error}"
        ) from error
    if (Path(directory) / FILE_NAME).is_file():
        if differences := spec.differences(DatasetInfo.load(directory).spec):
            raise TrainerError(
                f"--spec (here) differs from the {FILE_NAME} in {directory} (there): "
                f"{'; '.join(differences)}; leave --spec out, or delete that file"
            )
        return
    from tfrecords_schema.scan import AdoptError, adopt

    try:
        info = adopt(directory, spec)
    except AdoptError as error:
        raise TrainerError(str(error)) from error
    info.save(directory)
    _log.info("described: %s, by scanning the records", Path(directory) / FILE_NAME)


def _evaluate(args: argparse.Namespace) -> None:
    _check_batch_size(args.batch_size)
    _check_writable(output=args.output, report=args.report)
    folder, trained_on = open_run(args.model)
    info = DatasetInfo.load(args.tfrecords)
    check_compatible(args.model, trained_on, info)
    asked = {"eval_clips": args.eval_clips, "ignore_errors": args.ignore_errors}
    given = {name: value for name, value in asked.items() if value is not None}
    # What only training does is no matter here, with whatever goes along with that.
    reading = dataclasses.replace(
        reading_of(folder),
        augment=None,
        mirrored_classes=None,
        balance_classes=False,
        cache_frames=None,
        **given,
    )
    reading.check_for(trained_on)
    split = args.split or default_split(info)
    shard_paths(args.tfrecords, info, split)
    _prepare_tensorflow()
    from trainer.evaluation.baseline import describe_baseline
    from trainer.evaluation.evaluate import evaluate_run, scores_to_json
    from trainer.evaluation.score import compare, format_score
    from trainer.report.page import write_report

    score = evaluate_run(
        args.model, args.tfrecords, split=split, batch_size=args.batch_size, reading=reading
    )
    _log.info("baseline: %s", describe_baseline(trained_on))
    _log.info("%s\n%s", format_score(score), compare(score))
    if args.output is not None:
        write_json(
            Path(args.output),
            {
                "model": str(args.model),
                "tfrecords": str(args.tfrecords),
                "baseline": describe_baseline(trained_on),
                **scores_to_json([score]),
            },
        )
    if args.report is not None:
        write_report(args.report, [score], model=args.model, directory=args.tfrecords)


def _check_batch_size(batch_size: int) -> None:
    if not 1 <= batch_size < 2**31:
        raise UsageError(
            f"batch_size must be a whole number of at least 1 and below 2**31, got {batch_size}"
        )


def _check_writable(**files: str | None) -> None:
    """Checks before the work is done that its outcome can be written."""
    for flag, file in files.items():
        if file is not None and (Path(file).is_dir() or not Path(file).parent.is_dir()):
            raise UsageError(f"--{flag} must be a file in a folder that exists, got {file}")


def _prepare_tensorflow() -> None:
    """Settings that count only before the first import of TensorFlow and Keras."""
    # Its notes on the machine say nothing of the user's run, some of them as "errors"; what really fails is
    # raised in Python as well. Whoever wants the notes sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The layers are Keras's, but reading and exporting are TensorFlow's.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise TrainerError(
            f"training needs TensorFlow, which is not installed ({error}): "
            "pip install 'reelbeam[trainer]'"
        ) from error


@contextmanager
def _log_to_stdout() -> Iterator[None]:
    """The package's own log as plain lines, which is all the output a person gets."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
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


def _report(error: object, code: int) -> int:
    message = " ".join(str(error).split())
    sys.stderr.write(f"trainer: error: {message}\n")
    return code

"""``trainer``: the flags, and what becomes of them. Nothing here waits for TensorFlow before it must."""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SequenceSpec
from trainer.config import ModelConfig, TrainingConfig
from trainer.dataset import check_compatible, check_trainable, default_split, shard_paths
from trainer.errors import TrainerError
from trainer.options import ConfigError, options_of, shown
from trainer.presets import PRESETS, preset_options
from trainer.run_folder import new_run, open_run, resumed_run, write_json

_log = logging.getLogger(__name__)

_USAGE_EXIT = 2
_FAILURE_EXIT = 1
_INTERRUPTED_EXIT = 130


class UsageError(TrainerError):
    """A command line that cannot be understood."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a ``trainer`` command line and returns its exit code: 0, 1 for a failure, 2 for wrong flags."""
    words = _with_underscores(sys.argv[1:] if argv is None else argv)
    try:
        with _log_to_stdout():
            if words[:1] == ["evaluate"]:
                _evaluate(_evaluate_parser().parse_args(words[1:]))
            else:
                _train(parse_train(words))
    except (UsageError, ConfigError) as error:
        return _report(error, _USAGE_EXIT)
    except (TrainerError, DatasetInfoError, CorruptRecordError, OSError) as error:
        return _report(error, _FAILURE_EXIT)
    except KeyboardInterrupt:
        return _report("interrupted", _INTERRUPTED_EXIT)
    return 0


def parse_train(words: Sequence[str]) -> argparse.Namespace:
    """The flags of a training; a preset's options stand where a flag is not given."""
    parser = _train_parser()
    args = parser.parse_args(words)
    if args.preset is not None:
        parser.set_defaults(**preset_options(args.preset))
        args = parser.parse_args(words)
    return args


def config_from_args(args: argparse.Namespace) -> TrainingConfig:
    """The options that the parsed flags ask for."""

    def chosen(config: type) -> dict[str, Any]:
        return {field.name: getattr(args, field.name) for field in options_of(config)}

    return TrainingConfig(**chosen(TrainingConfig), model=ModelConfig(**chosen(ModelConfig)))


def _train(args: argparse.Namespace) -> None:
    config = config_from_args(args)
    if args.spec is not None:
        _adopt(args.tfrecords, args.spec)
    info = DatasetInfo.load(args.tfrecords)
    config.check_for(info)
    check_trainable(args.tfrecords, info)
    if args.resume:
        folder = resumed_run(args.output, info, config.to_json())
    else:
        folder = new_run(args.output, info.name)
    _prepare_tensorflow()
    from trainer.train import train

    train(args.tfrecords, folder, config)


def _adopt(directory: str, spec_file: str) -> None:
    """Describes records that others wrote, unless they are described already, in the same way.

    Raises:
        TrainerError: when they are described in another way, or cannot be.
    """
    try:
        spec = SequenceSpec.from_json(json.loads(Path(spec_file).read_bytes()))
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
    from tfrecords_schema.adopt import AdoptError, adopt

    try:
        info = adopt(directory, spec)
    except AdoptError as error:
        raise TrainerError(str(error)) from error
    info.save(directory)
    _log.info("described: %s, by scanning the records", Path(directory) / FILE_NAME)


def _evaluate(args: argparse.Namespace) -> None:
    _check_batch_size(args.batch_size)
    _check_writable(output=args.output, report=args.report)
    _, trained_on = open_run(args.model)
    info = DatasetInfo.load(args.tfrecords)
    check_compatible(args.model, trained_on, info)
    split = args.split or default_split(info)
    shard_paths(args.tfrecords, info, split)
    _prepare_tensorflow()
    from trainer.baseline import describe_baseline
    from trainer.evaluate import evaluate_run, scores_to_json
    from trainer.report import write_report
    from trainer.score import compare, format_score

    score = evaluate_run(args.model, args.tfrecords, split=split, batch_size=args.batch_size)
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


def _train_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="trainer",
        description="Trains a CNN-LSTM on a dataset that `pipelines` built. Shapes, task, classes and "
        "statistics come from its dataset_info.json.",
        epilog="trainer evaluate --model RUN --tfrecords DIR scores a trained run on a dataset; "
        "see trainer evaluate --help.",
    )
    parser.add_argument("--tfrecords", required=True, metavar="DIR", help="folder of the dataset")
    parser.add_argument(
        "--spec",
        metavar="FILE.json",
        help="what records that others wrote hold, as the spec in a dataset_info.json; one is written for "
        "them (see also pipelines adopt)",
    )
    parser.add_argument(
        "--output", metavar="RUN", help="new folder for the run (default: runs/NAME-TIMESTAMP)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --output after its last complete epoch, as if nothing had happened; "
        "--epochs and --patience may be others",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"options to begin with, which flags change: {', '.join(PRESETS)}",
    )
    _add_options(parser.add_argument_group("training"), TrainingConfig)
    _add_options(parser.add_argument_group("model"), ModelConfig)
    return parser


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="trainer evaluate",
        description="Scores a trained run on a dataset made to the same spec, beside the baseline.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="folder that training left")
    parser.add_argument("--tfrecords", required=True, metavar="DIR", help="folder of the dataset")
    parser.add_argument("--split", help="default: the first of test, validation, train it has")
    parser.add_argument("--output", metavar="FILE", help="JSON file to write the metrics to")
    parser.add_argument(
        "--report", metavar="FILE", help="HTML file to write where the model errs to"
    )
    parser.add_argument("--batch_size", type=_whole, default=16, metavar="N", help="default: 16")
    return parser


def _add_options(group: Any, config: type) -> None:
    """A flag for each field of ``config`` that is an option."""
    for field in options_of(config):
        parse, metavar = _PARSERS[str(field.type)]
        default = "" if field.default is None else f" (default: {shown(field.default)})"
        also = field.metadata["also"]
        group.add_argument(
            f"--{field.name}",
            *([f"--{also}"] if also else []),
            dest=field.name,
            type=parse,
            default=field.default,
            metavar=field.metadata["metavar"] or metavar,
            help=field.metadata["help"] + default,
        )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _whole_numbers(text: str) -> tuple[int, ...]:
    if text == "0":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers with commas between, as in 16,32,64, got {text!r}"
        ) from None


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"expected on or off, got {text!r}")
    return text == "on"


# By the annotation of a field, which `from __future__ import annotations` keeps as text.
_PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "int": (_whole, "N"),
    "int | None": (_whole, "N"),
    "float": (_number, "F"),
    "float | None": (_number, "F"),
    "bool": (_switch, "on|off"),
    "tuple[int, ...]": (_whole_numbers, "N,N,..."),
    "str": (str, "NAME"),
    "str | None": (str, "NAME"),
    "Pooling": (str, "avg|flatten"),
    "Rnn": (str, "lstm|gru|convlstm|none"),
    "Activation": (str, "tanh|relu"),
    "Schedule": (str, "constant|cosine"),
    "Precision": (str, "float32|mixed_float16|mixed_bfloat16"),
    "Xla": (str, "auto|on|off"),
    "Caching": (str, "auto|off"),
    "Distribute": (str, "auto|off|mirrored|multi_worker"),
}


class _Parser(argparse.ArgumentParser):
    """Flags in full only, and errors that say what to do."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        # Before all else: a misspelt flag is the likelier mistake than a missing one.
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for word in args:
            flag = word.partition("=")[0]
            if word.startswith("--") and flag not in known:
                close = difflib.get_close_matches(flag, known, n=1)
                self.error(f"unknown flag {flag}{f', did you mean {close[0]}?' if close else ''}")
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"expected flags only, got {unknown[0]!r}")
        return parsed

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size must be a whole number of at least 1, got {batch_size}")


def _check_writable(**files: str | None) -> None:
    """Checks before the work is done that its outcome can be written."""
    for flag, file in files.items():
        if file is not None and (Path(file).is_dir() or not Path(file).parent.is_dir()):
            raise UsageError(f"--{flag} must be a file in a folder that exists, got {file}")


def _with_underscores(words: Sequence[str]) -> list[str]:
    """``--batch-size=8`` as ``--batch_size=8``: flags are known with either."""
    result = []
    for word in words:
        flag, equals, value = word.partition("=")
        result.append(
            f"--{flag[2:].replace('-', '_')}{equals}{value}" if flag.startswith("--") else word
        )
    return result


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

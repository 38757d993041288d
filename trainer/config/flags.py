"""The flags of ``trainer``: made from the options, and parsed so that mistakes are told apart."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from trainer.config.options import options_of, shown
from trainer.config.presets import PRESETS, preset_options
from trainer.config.training import ModelConfig, ReadingConfig, TrainingConfig
from trainer.errors import TrainerError


class UsageError(TrainerError):
    """A command line that cannot be understood."""


def parse_train(words: Sequence[str]) -> argparse.Namespace:
    """The flags of a training; a preset's options stand where a flag is not given."""
    parser = train_parser()
    args = parser.parse_args(words)
    if args.preset is not None:
        parser.set_defaults(**preset_options(args.preset))
        args = parser.parse_args(words)
    return args


def config_from_args(args: argparse.Namespace) -> TrainingConfig:
    """The options that the parsed flags ask for."""

    def chosen(config: type) -> dict[str, Any]:
        return {field.name: getattr(args, field.name) for field in options_of(config)}

    return TrainingConfig(
        **chosen(TrainingConfig),
        reading=ReadingConfig(**chosen(ReadingConfig)),
        model=ModelConfig(**chosen(ModelConfig)),
    )


def train_parser() -> Parser:
    """The flags of a training."""
    parser = Parser(
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
        help="go on with the run in --output from its last checkpoint, as if nothing had happened; --epochs "
        "and --patience may be others",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"options to begin with, which flags change: {', '.join(PRESETS)}",
    )
    _add_options(parser.add_argument_group("training"), TrainingConfig)
    _add_options(parser.add_argument_group("what is read"), ReadingConfig)
    _add_options(parser.add_argument_group("model"), ModelConfig)
    return parser


def evaluate_parser() -> Parser:
    """The flags of ``trainer evaluate``."""
    parser = Parser(
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
    parser.add_argument(
        "--eval_clips",
        type=_whole,
        metavar="N",
        help="clips of each sequence over which the answers of a model that takes fewer frames than records "
        "hold are averaged (default: as it was trained)",
    )
    parser.add_argument(
        "--ignore_errors",
        type=_switch,
        metavar="on|off",
        help="leave damaged records out, and count them (default: as it was trained)",
    )
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


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected height and width, as in 90x160, got {text!r}"
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
    "tuple[int, int] | None": (_size, "HxW"),
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
    "ClipAt": (str, "auto|random|first|center|last"),
}


class Parser(argparse.ArgumentParser):
    """Flags in full only, and errors that say what to do."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The values of the flags in ``args``; raises `UsageError` for anything else."""
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
        """Raises it with a hint."""
        raise UsageError(f"{message}; see `{self.prog} --help`")


def with_underscores(words: Sequence[str]) -> list[str]:
    """``--batch-size=8`` as ``--batch_size=8``: flags are known with either."""
    result = []
    for word in words:
        flag, equals, value = word.partition("=")
        result.append(
            f"--{flag[2:].replace('-', '_')}{equals}{value}" if flag.startswith("--") else word
        )
    return result

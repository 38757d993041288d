"""Flags made from options: the argument parser of both programs, and the keywords of their Python calls."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from typing import Any, NoReturn

from tfrecords_schema.options import REQUIRED, Option, Options, all_options, did_you_mean

_COMPLETION = "--print_completion"
_SHELLS = ("bash", "zsh", "tcsh")


@dataclass(frozen=True)
class Program:
    """A program and its verbs: what it prints when no verb is called.

    Attributes:
        name: the command.
        summary: lines that say what it does, and its calls without a verb.
        verbs: what each verb does, in a sentence.
        parsers: the parser of each verb, and of the flags without a verb if "" is a key.
        error: raised for words that it does not know.
    """

    name: str
    summary: str
    verbs: Mapping[str, str]
    parsers: Mapping[str, Callable[[], Parser]]
    error: type[Exception]

    @property
    def overview(self) -> str:
        """The verbs, and the words that need none."""
        flags = {
            "--version": "Prints the version.",
            _COMPLETION: f"Prints completions for {', '.join(_SHELLS)}.",
        }
        lists = [("verbs", self.verbs), ("flags", flags)]
        width = max(map(len, (*self.verbs, *flags))) + 2
        parts = [
            f"{title}:\n" + "\n".join(f"  {name:{width}}{text}" for name, text in items.items())
            for title, items in lists
        ]
        verb = "[VERB]" if "" in self.parsers else "VERB"
        last = f"See {self.name} VERB --help for the flags of a verb and an example."
        return "\n\n".join([f"usage: {self.name} {verb} [flags]", self.summary, *parts, last])

    def answer(self, words: Sequence[str]) -> str | None:
        """Returns what is printed for the words of a command line that begins with no verb.

        None stands for flags that are those of the program without a verb.

        Raises:
            Exception: of the program's `error` for anything but ``--help``, ``--version``,
                ``--print_completion SHELL`` and no word at all.
        """
        first, _, value = "".join(normalize(words[:1])).partition("=")
        if not words or (first in ("-h", "--help") and "" not in self.parsers):
            return self.overview
        if first == "--version":
            return f"{self.name} {metadata.version('reelbeam')}"
        if first == _COMPLETION:
            return self._completion(value or "".join(words[1:2]))
        if first.startswith("-") and "" in self.parsers:
            return None
        hint = did_you_mean(first, list(self.verbs))
        raise self.error(f"expected a verb ({', '.join(self.verbs)}), got {first!r}{hint}")

    def _completion(self, shell: str) -> str:
        """Returns the script by which a shell completes verbs, flags and their values."""
        if shell not in _SHELLS:
            raise self.error(
                f"{_COMPLETION} must be {', '.join(_SHELLS[:-1])} or {_SHELLS[-1]}, got {shell!r}"
            )
        try:
            import shtab
        except ImportError as error:
            raise self.error(
                f"{_COMPLETION} needs shtab, which is not installed: pip install 'reelbeam[completion]'"
            ) from error
        parents = [self.parsers[""]()] if "" in self.parsers else []
        root = argparse.ArgumentParser(self.name, parents=parents, add_help=not parents)
        verbs = root.add_subparsers()
        parsers: list[argparse.ArgumentParser] = [root]
        for name, text in self.verbs.items():
            made = self.parsers[name]()
            parsers.append(verbs.add_parser(name, help=text, parents=[made], add_help=False))
        for action in (action for parser in parsers for action in parser._actions):
            words = str(action.metavar).split("|")
            if len(words) > 1:
                action.choices = words
            elif action.option_strings and action.nargs != 0:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        return shtab.complete(root, shell=shell)


class Parser(argparse.ArgumentParser):
    """Parses the flags of one verb: full names only, with underscores or dashes.

    An option without a flag takes the unknown words, such as Beam's flags. Otherwise they are refused.
    """

    def __init__(self, options: type[Options], *, prog: str, description: str, example: str):
        items = list(all_options(options))
        required = [f"--{i.flag} {i.metavar} " for _, i in items if i.default is REQUIRED]
        super().__init__(
            prog=prog,
            usage=f"{prog} {''.join(required)}[flags]",
            description=textwrap.fill(description, 100),
            epilog=f"Example:\n  {example}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.example = example
        self.options = options
        self._leading = next((f"--{item.flag}" for _, item in items if item.leads), None)
        self._unknown = next((item.flag for _, item in items if not item.has_flag), None)
        groups: dict[str, Any] = {"": self}
        for title, item in items:
            if item.has_flag:
                if title not in groups:
                    groups[title] = self.add_argument_group(title)
                _add_flag(groups[title], item)

    @property
    def flags(self) -> list[str]:
        """All flags, with their dashes."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def parse(self, argv: Sequence[str], known: Container[str] = ()) -> dict[str, Any]:
        """Returns the values of the flags in ``argv``, as typed, for `make_options`.

        The flags in ``known``, of which the caller knows the values, are not required.
        """
        for action in self._actions:
            action.required = action.required and action.dest not in known
        words = normalize(argv)
        if self._leading and words and not words[0].startswith("-"):
            words.insert(0, self._leading)
        given = [word.partition("=")[0] for word in words if word.startswith("--")]
        # An unknown flag is probably misspelled if it is close to a required one that is missing.
        required = [f"--{action.dest}" for action in self._actions if action.required]
        missing = [flag for flag in required if flag not in given]
        for flag in given if given[:1] != ["--"] else []:
            if flag not in self._option_string_actions:
                hint = did_you_mean(flag, missing if self._unknown else self.flags)
                if hint or not self._unknown:
                    self.error(f"unknown flag {flag}{hint}")
        namespace, rest = self.parse_known_args(words)
        if rest and not self._unknown:
            self.error(f"expected flags only, got {rest[0]!r}")
        return {**vars(namespace), **({self._unknown: rest} if self._unknown and rest else {})}

    def error(self, message: str) -> NoReturn:
        """Raises the error of the options' program, in one line."""
        raise self.options.error(message.removeprefix("argument "))


def normalize(argv: Sequence[str]) -> list[str]:
    """Returns ``argv`` with ``--num-frames -3`` as ``--num_frames=-3``, so that -3 is read as a value."""
    normal: list[str] = []
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word.partition("=")
            normal.append("--" + name[2:].replace("-", "_") + equals + value)
        elif re.match(r"-[\d.]", word) and normal and re.fullmatch(r"--\w+", normal[-1]):
            normal[-1] += f"={word}"
        else:
            normal.append(word)
    return normal


def document_call(function: Callable[..., Any], options: type[Options]) -> None:
    """Gives a function that takes ``options`` as keywords their signature and their help, for `help`."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    names = [parameter.name for parameter in own]
    items = [item for _, item in all_options(options) if item.flag not in names]
    keywords = []
    for item in items:
        # The value of a dataclass is read from a file.
        is_file = dataclasses.is_dataclass(item.default)
        default, hint = (None, str) if is_file else (item.default, item.hint)
        settings = {"default": default, "annotation": hint if default is not None else hint | None}
        keywords.append(inspect.Parameter(item.flag, inspect.Parameter.KEYWORD_ONLY, **settings))
    function.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
    lines = [f"    {item.flag}: {item.help}" for item in items]
    function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Options:", *lines])


class _Words(argparse.Action):
    """Joins the words of a list, which may hold commas themselves, by commas."""

    def __call__(self, _parser: Any, namespace: Any, values: Any, _option: Any = None) -> None:
        setattr(namespace, self.dest, ",".join(word.strip().strip(",") for word in values))


def _add_flag(parser: argparse._ActionsContainer, item: Option) -> None:
    settings: dict[str, Any] = {}
    if item.hint is bool:
        settings = {"nargs": "?", "const": "on"}
    elif item.is_list:
        settings = {"nargs": "+", "action": _Words if item.commas else "extend"}
    placeholders = {bool: "on|off", int: "N", float: "X", Fraction: "X"}
    metavar = "HxW" if item.is_size else placeholders.get(item.item_type or item.hint)
    parser.add_argument(
        f"--{item.flag}",
        *([f"--{item.also}"] if item.also else []),
        dest=item.flag,
        required=item.default is REQUIRED,
        default=argparse.SUPPRESS,
        metavar=item.metavar or "|".join(item.choices) or metavar,
        help=item.help.replace("%", "%%"),
        **settings,
    )

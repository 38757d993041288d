"""The command line: ``pipelines VERB --flag value ...``. Each verb is a Python call of `pipelines.verbs`."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipelines.errors import (
    FailedWorkError,
    InterruptedWorkError,
    UnknownFlagError,
    UsageError,
    UserError,
    as_interrupted_work,
)
from pipelines.verbs import VERBS, say
from tfrecords_schema.command_line import Parser, Program
from tfrecords_schema.options import all_options, did_you_mean
from tfrecords_schema.running import interruption
from tfrecords_schema.running.scratch import hold_temporary_files, remove_scratch
from tfrecords_schema.running.surroundings import use_utf8
from tfrecords_schema.running.terminal import outlive_terminal, printable

REFUSED, FAILED, INTERRUPTED = 1, 2, 130
"""Exit statuses: of a refused result (a check failed, or more sources than may), of work that could not be
done, and after Ctrl-C or SIGTERM, as shells define it."""


def make_parser(name: str) -> Parser:
    """Returns the parser of a verb's flags."""
    verb = VERBS[name]
    runs_beam = any(not item.has_flag for _, item in all_options(verb.options))
    beam = "Apache Beam's own flags (--runner, --project, ...) are passed on to it."
    sentences = [f"{verb.summary}.", verb.notes, beam if runs_beam else ""]
    return Parser(
        verb.options,
        prog=f"pipelines {name}",
        description=" ".join(filter(None, sentences)),
        example=f"pipelines {name} {verb.example}",
    )


PROGRAM = Program(
    "pipelines",
    "Turns footage into TFRecords of labelled frame sequences.",
    {name: f"{verb.summary}." for name, verb in VERBS.items()},
    {name: functools.partial(make_parser, name) for name in VERBS},
    UsageError,
)


def run() -> NoReturn:
    """Runs the ``pipelines`` program: `main`, and then an end that waits for no thread.

    Beam leaves threads behind, and its import may still be running in one. A thread inside a C++ library
    while Python shuts down aborts the process ("FATAL: exception not rethrown"), whatever the result was.
    """
    use_utf8()
    outlive_terminal()
    # gRPC logs that its own connections end when the program does.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    interruption.install_handlers(functools.partial(_abandon, "".join(sys.argv[1:2])))
    with contextlib.suppress(OSError):  # the verb that needs one reports it
        hold_temporary_files()
    _end(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Beam's warnings concern Beam; messages for users are our own.
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    if words and words[0] in VERBS:
        return _run_verb(words[0], words[1:])
    try:
        said = PROGRAM.answer(words)
    except UsageError as error:
        _fail("pipelines", f"{error} (see pipelines --help)")
        return FAILED
    say(said or "")
    return 0 if words else FAILED


def _run_verb(name: str, words: Sequence[str]) -> int:
    parser = make_parser(name)
    verb = VERBS[name]
    try:
        values = parser.parse(words)
        result = verb.call(**values)
    except (Exception, KeyboardInterrupt) as error:
        # Libraries may turn the interruption into an error of their own.
        if isinstance(error, KeyboardInterrupt) or interruption.is_received():
            _abandon(name)
        return _report(error, name, parser)
    if name == "validate" and result.failed:
        return REFUSED
    if verb.next and result is not None:  # a dry run makes nothing
        quoted = {
            key: shlex.quote(value) for key, value in values.items() if isinstance(value, str)
        }
        quoted["tfrecords"] = quoted.get("rewrite", quoted.get("tfrecords", ""))
        say(f"next: {verb.next.format_map(quoted)}")
    return 0


def _report(error: BaseException, name: str, parser: Parser) -> int:
    """Prints an error of a verb as one line; returns the exit status."""
    command = f"pipelines {name}"
    if isinstance(error, UsageError):
        hint = did_you_mean(error.flag, parser.flags) if isinstance(error, UnknownFlagError) else ""
        _fail(command, f"{error}{hint} (see {command} --help)")
        return FAILED
    if isinstance(error, OSError):
        error = as_interrupted_work(error, str(error.filename or "system"))
    if not isinstance(error, UserError):
        raise error
    is_late = isinstance(error, InterruptedWorkError)
    _fail(command, f"{error}. {VERBS[name].again}" if is_late else str(error))
    return REFUSED if isinstance(error, FailedWorkError) else FAILED


def _fail(command: str, message: str) -> None:
    line = printable(" ".join(message.split("\n")))
    print(f"{command}: error: {line}", file=sys.stderr)  # noqa: T201


def _abandon(name: str) -> NoReturn:
    """Ends the process at once. Beam's threads would go on, and decoders end when this process does."""
    interruption.lift_time_limit()
    again = f". {VERBS[name].again}" if name in VERBS else ""
    _fail(f"pipelines {name}".strip(), f"interrupted. Type the same command again{again}")
    _end(INTERRUPTED)


def _end(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Threads of gRPC may still log that they end, after the last line for the user.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    remove_scratch()
    os._exit(status)

"""The command line: ``pipelines VERB``."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from pipelines.datasets.adopt import add_adopt_flags, run_adopt
from pipelines.errors import UsageError, UserError, describe_os_error
from pipelines.options import flags as arguments
from pipelines.options.dataset import DatasetOptions, RunOptions
from pipelines.options.prediction import add_prediction_flags, prediction_options
from pipelines.plan.descriptors import Listing
from pipelines.runners import interruption
from pipelines.storage.scratch import remove_scratch
from tfrecords_schema.store_clients import is_url
from tfrecords_schema.surroundings import use_utf8

INTERRUPTED = 130
"""Exit status after Ctrl-C or SIGTERM, as shells give it."""


def run() -> NoReturn:
    """The ``pipelines`` program: `main`, then an end that waits for no thread.

    Beam leaves threads behind, and importing it may still go on. One that is within a C++ library when
    Python takes itself down aborts the process ("FATAL: exception not rethrown"), whatever was achieved.
    """
    use_utf8()
    interruption.listen(functools.partial(_abandon, "pipelines"))
    _end(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0, or 1 for a failure. A wrong call exits with 2."""
    parser = _make_parser()
    flags, beam_args = parser.parse_known_args(
        arguments.normalize(sys.argv[1:] if argv is None else argv)
    )
    command = f"pipelines {flags.verb}"
    for stream in (sys.stdout, sys.stderr):
        # Names of files and classes may hold bytes that are no text in any encoding.
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # Beam's warnings are about Beam; what matters to a user is said by us.
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    try:
        return flags.run(flags, beam_args)
    except UsageError as error:
        _fail(command, f"{error} (see {command} --help)")
        return 2
    except UserError as error:
        return _fail(command, str(error))
    except OSError as error:
        return _fail(command, describe_os_error(error, str(error.filename or "system")))
    except KeyboardInterrupt:
        _abandon(command)


def _make_parser() -> arguments.Parser:
    parser = arguments.Parser(
        prog="pipelines",
        description="Footage to TFRecords of labelled frame sequences. Apache Beam's own flags "
        "(--runner, --project, ...) pass through.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_verb(verbs, "videos", _run_videos, _add_videos_flags, "videos to a dataset")
    _add_verb(verbs, "dashcam", _run_dashcam, _add_dashcam_flags, "dash-cam footage to a dataset")
    _add_verb(verbs, "validate", _run_validate, _add_validate_flags, "examine a dataset")
    _add_verb(verbs, "predict", _run_predict, add_prediction_flags, "a trained model over footage")
    _add_verb(verbs, "adopt", _run_adopt, add_adopt_flags, "describe TFRecords that others wrote")
    return parser


def _add_verb(
    verbs: argparse._SubParsersAction[arguments.Parser],
    name: str,
    run: Callable[[argparse.Namespace, Sequence[str]], int],
    add_flags: Callable[[argparse.ArgumentParser], None],
    summary: str,
) -> None:
    parser = verbs.add_parser(name, help=summary, description=summary)
    add_flags(parser)
    parser.set_defaults(run=run)


def _add_videos_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        required=True,
        help="a folder with a folder of videos a class; a glob; or a manifest (.csv, .jsonl); local, or "
        "a URL (s3://, gs://, hdfs://)",
    )
    parser.add_argument("--output", required=True, help="folder of the dataset, or its URL")
    arguments.add_label_flags(parser)
    arguments.add_dataset_flags(parser)
    arguments.add_run_flags(parser)


def _run_videos(flags: argparse.Namespace, beam_args: Sequence[str]) -> int:
    from pipelines.sources.videos import list_videos

    def list_sources(options: DatasetOptions) -> Listing:
        return list_videos(flags.input, split=options.split, label=options.label)

    return _build(flags, beam_args, list_sources)


def _add_dashcam_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        required=True,
        help="with --annotation: a folder of folders of frames; with --telemetry: a folder of videos, a glob "
        "or a video; with --no_images: the same of telemetry; local, or a URL (s3://, gs://, hdfs://)",
    )
    parser.add_argument("--output", required=True, help="folder of the dataset, or its URL")
    arguments.add_dashcam_flags(parser)
    arguments.add_dataset_flags(parser)
    arguments.add_run_flags(parser)


def _run_dashcam(flags: argparse.Namespace, beam_args: Sequence[str]) -> int:
    from pipelines.sources.dashcam import check_dashcam_options, list_dashcam

    def list_sources(options: DatasetOptions) -> Listing:
        check_dashcam_options(options)
        return list_dashcam(flags.input, options)

    return _build(flags, beam_args, list_sources)


def _build(
    flags: argparse.Namespace,
    beam_args: Sequence[str],
    list_sources: Callable[[DatasetOptions], Listing],
) -> int:
    from pipelines.build.stored_output import open_output

    options = arguments.dataset_options(flags, default_name="")
    run = arguments.run_options(flags, beam_args)
    output = open_output(flags.output)
    _check_beam_args(run)
    _check_apart(flags.input, flags.output)

    from pipelines.build.build import build_dataset, import_beam_meanwhile, make_plan
    from pipelines.build.summary import describe_dataset, describe_failures, describe_plan
    from pipelines.decoding.preflight import check_decoder

    if not run.dry_run:
        import_beam_meanwhile()
    check_decoder(run)
    listing = list_sources(options)
    options = replace(options, name=flags.name or listing.name)
    if not run.dry_run:
        # Before minutes of probing, not after them.
        output.check_free_for(options.to_json(), overwrite=run.overwrite)
    for note in listing.notes:
        _say(f"note: {note}")
    plan = make_plan(listing, options, run, output)
    _say(describe_plan(plan))
    if run.dry_run:
        return 0
    try:
        info = build_dataset(plan, options, run, output)
    except UserError:
        if output.complete_info() is None:  # else they are of another build
            for line in describe_failures(output.failures()):
                _say(line)
        raise
    _say("\n".join([describe_dataset(info, flags.output), *describe_failures(output.failures())]))
    return 0


def _add_validate_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Exit status: 0 when no check fails, 1 when one does, 2 for a wrong call or folder."
    )
    parser.add_argument(
        "--tfrecords", required=True, metavar="DIR", help="folder of the dataset, or its URL"
    )
    parser.add_argument(
        "--sources", metavar="DIR", help="what it was built from: records are compared with that"
    )
    parser.add_argument("--against", metavar="DIR", help="an older dataset, to look for drift from")
    parser.add_argument("--report", metavar="FILE.html", help="write a report to look at")
    parser.add_argument("--json", metavar="FILE.json", help="write the findings for programs")
    parser.add_argument(
        "--thresholds",
        metavar="FILE.json",
        help="what checks compare with; without it, validation.json in the dataset's folder, if any",
    )
    parser.add_argument(
        "--fail_on", choices=["error", "warning"], default="error", help="the mildest that fails"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the records the report shows")
    parser.add_argument("--workers", type=int, help="of the local runner; None is one a CPU")


def _run_validate(flags: argparse.Namespace, beam_args: Sequence[str]) -> int:
    from pipelines.validation.outcome import describe
    from pipelines.validation.pipeline import validate
    from pipelines.validation.thresholds import ValidationOptions, load_thresholds

    try:
        run = RunOptions(workers=flags.workers, beam_args=tuple(beam_args))
        _check_beam_args(run)
        validation = validate(
            ValidationOptions(
                tfrecords=flags.tfrecords,
                sources=flags.sources,
                against=flags.against,
                report=flags.report,
                json=flags.json,
                fail_on=flags.fail_on,
                seed=flags.seed,
                run=run,
                thresholds=load_thresholds(flags.tfrecords, flags.thresholds),
            )
        )
    except UserError as error:
        _fail("pipelines validate", str(error))
        return 2  # 1 says that a check failed
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail("pipelines validate", f"{place}{error.strerror or error}")
        return 2
    _say(describe(validation))
    return 1 if validation.failed else 0


def _run_predict(flags: argparse.Namespace, beam_args: Sequence[str]) -> int:
    options = prediction_options(flags, beam_args)
    _check_beam_args(options.run)
    if options.overlay is not None:
        _check_apart(options.input, options.overlay, flag="--overlay")
    # Beam takes the better part of a second to import, which a wrong flag need not wait for.
    from pipelines.prediction.predict import predict_footage

    predict_footage(options, _say)
    return 0


def _run_adopt(flags: argparse.Namespace, beam_args: Sequence[str]) -> int:
    if beam_args:
        raise UsageError(f"unknown flag {beam_args[0]}")
    _say(run_adopt(flags))
    return 0


def _check_apart(source: str, output: str, flag: str = "--output") -> None:
    """What is built inside the input would be input the next time."""
    if is_url(source) or is_url(output):
        is_inside = f"{output.rstrip('/')}/".startswith(f"{source.rstrip('/')}/")
    else:
        outer, inner = os.path.realpath(source), os.path.realpath(output)
        is_inside = os.path.isdir(outer) and os.path.commonpath([outer, inner]) == outer
    if is_inside:
        raise UsageError(f"{flag} must lie outside --input, got {output} inside {source}")


def _check_beam_args(run: RunOptions) -> None:
    if run.beam_args:
        from pipelines.runners.local import parse_beam_args

        parse_beam_args(run.beam_args, workers=run.local_workers)


def _say(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        # Whoever read along has left (`| head`); the work goes on without them.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _fail(command: str, message: str) -> int:
    line = " ".join(message.split("\n"))
    print(f"{command}: error: {line}", file=sys.stderr)  # noqa: T201
    return 1


def _abandon(command: str) -> NoReturn:
    """Ends the process at once: Beam's threads would go on, and decoders end when this process does."""
    interruption.take_time()
    _fail(command, "interrupted: type the same command again; a build goes on from here")
    _end(INTERRUPTED)


def _end(status: int) -> NoReturn:
    remove_scratch()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by who called
            stream.flush()
    os._exit(status)

"""A Python call for each verb of the command line, which calls the same functions.

Keywords are the verb's flags. They take values of Python's types, or the text that is typed for the flag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines.datasets.adopt import adopt_folder, describe_adopted
from pipelines.datasets.show import describe_contents, load_dataset
from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import RunOptions
from pipelines.options.layouts import fill_layout
from pipelines.options.verbs import (
    AdoptOptions,
    BuildOptions,
    DashcamOptions,
    MergeOptions,
    PredictionOptions,
    ShowOptions,
    TelemetryListing,
    VideosOptions,
)
from pipelines.validation.thresholds import Thresholds, ValidationOptions, load_thresholds
from tfrecords_schema.command_line import document_call
from tfrecords_schema.options import Options, make_options
from tfrecords_schema.paths import is_inside
from tfrecords_schema.running.terminal import printable

if TYPE_CHECKING:
    from pipelines.plan.descriptors import Listing
    from pipelines.validation.outcome import Validation
    from tfrecords_schema.info import DatasetInfo

# Beam, OpenCV and FFmpeg are imported by the calls that need them, after the options have been checked.


def build_videos(input: str, output: str, **options: Any) -> DatasetInfo | None:
    """Builds a dataset of videos, or finishes an interrupted build of it.

    Example: ``build_videos("clips", "dataset", num_frames=16, frame_rate=10, size=(128, 171))``.

    Returns:
        The description of the complete dataset; None for a ``dry_run``, which prints the plan.

    Raises:
        UserError: if an option, the footage or the output folder is wrong, or if the build fails.
    """
    made = make_options(VideosOptions, {"input": input, "output": output, **options})
    from pipelines.sources.videos import list_videos

    dataset = made.dataset
    return _build(
        made,
        lambda: list_videos(
            made.input, split=dataset.split, label=dataset.label, sampling=dataset.sampling
        ),
    )


def build_dashcam(input: str, output: str, **options: Any) -> DatasetInfo | None:
    """Builds a dataset of dash-cam footage, or finishes an interrupted build of it.

    Example: ``build_dashcam("drives", "dataset", telemetry="{stem}.csv", label_columns=["speed"])``.

    Returns:
        The description of the complete dataset; None for a ``dry_run``, which prints the plan.

    Raises:
        UserError: if an option, the footage or the output folder is wrong, or if the build fails.
    """
    options = fill_layout(options)
    made = make_options(DashcamOptions, {"input": input, "output": output, **options})
    from pipelines.sources.dashcam import check_dashcam_options, list_dashcam
    from pipelines.sources.drives import expand_columns

    made = replace(made, dataset=expand_columns(made.input, made.dataset))
    check_dashcam_options(made.dataset)
    return _build(made, lambda: list_dashcam(made.input, made.dataset))


def _build(options: BuildOptions, list_sources: Callable[[], Listing]) -> DatasetInfo | None:
    run = options.run
    _check_beam_args(run)
    _check_outside(options.input, "--output", options.output)

    from pipelines.build.build import build_dataset, import_beam_meanwhile, make_plan
    from pipelines.build.growth import select_new
    from pipelines.build.output import OutputFolder
    from pipelines.build.preflight import check_decoder
    from pipelines.build.summary import describe_dataset, describe_failures, describe_plan

    output = OutputFolder(options.output)
    if not run.dry_run:
        import_beam_meanwhile()
    check_decoder(run)
    listing, growth, dataset = list_sources(), None, options.dataset
    if options.append:
        old = output.check_appendable(dataset.to_json())
        dataset = replace(dataset, name=old.name)
        keeps = options.changed_sources == "keep"
        listing, growth = select_new(listing, old, output, keeps, dataset.split.stratify)
    else:
        dataset = replace(dataset, name=dataset.name or listing.name)
        if not run.dry_run:
            # Checked before probing, which may take minutes.
            output.check_free_for(dataset.to_json(), overwrite=run.overwrite)
    for note in listing.notes:
        say(f"note: {note}")
    plan = make_plan(listing, dataset, run, output, growth)
    say(describe_plan(plan))
    if run.dry_run:
        return None
    try:
        info = build_dataset(plan, run)
    except UserError:
        if output.complete_info() is None:  # otherwise the failures are those of another build
            say("\n".join(describe_failures(output.failures())))
        raise
    say(describe_dataset(info, options.output, output.failures()))
    return info


def validate(tfrecords: str, **options: Any) -> Validation:
    """Runs all checks on a dataset, and writes the report and the findings if their files are named.

    Example: ``validate("dataset", fail_on="warning", report="report.html").failed``.

    Returns:
        The findings and what they were found in. A check that fails does not raise.

    Raises:
        UserError: if an option is wrong, or the folder holds no complete dataset.
    """
    thresholds = options.get("thresholds")
    if not isinstance(thresholds, Thresholds):
        options["thresholds"] = load_thresholds(tfrecords, thresholds)
    made = make_options(ValidationOptions, {"tfrecords": tfrecords, **options})
    _check_beam_args(made.run)
    from pipelines.validation.outcome import describe
    from pipelines.validation.pipeline import validate as run_validation

    validation = run_validation(made)
    say(describe(validation))
    return validation


def predict(model: str, input: str, output: str, **options: Any) -> None:
    """Predicts footage with a trained model, and writes a row for each sequence, frame, source or segment.

    Example: ``predict("runs/speed", "drives", "speeds.csv", every_frame=True)``.

    Raises:
        UserError: if an option, the model or the footage is wrong, or if too many sources fail.
    """
    given = {"model": model, "input": input, "output": output, **options}
    made = make_options(PredictionOptions, given)
    _check_beam_args(made.run)
    if made.overlay is not None and not made.live:
        _check_outside(made.input, "--overlay", made.overlay)
    from pipelines.prediction.predict import predict_footage

    predict_footage(made, say)


def show(tfrecords: str, **options: Any) -> DatasetInfo:
    """Prints what a dataset holds: frames, splits, classes or targets by split, and how it was built.

    Example: ``show("dataset").splits["train"].class_sources``. With ``page``, the sequences are written to a
    page to browse them.

    Raises:
        UserError: if the folder holds no complete dataset, or the page cannot be written.
    """
    made = make_options(ShowOptions, {"tfrecords": tfrecords, **options})
    info = load_dataset(made.tfrecords)
    say(describe_contents(info, made.tfrecords))
    if made.page is not None:
        from pipelines.browsing.page import write_page

        say(write_page(made.tfrecords, made.page))
    return info


def adopt(tfrecords: str, **options: Any) -> DatasetInfo:
    """Describes TFRecords that another program wrote, or copies them into a dataset (``rewrite``).

    Example: ``adopt("kinetics", num_frames=16).spec.label.class_names``.

    Raises:
        UserError: if an option is wrong, the folder is described already, or its records cannot be.
    """
    made = make_options(AdoptOptions, {"tfrecords": tfrecords, **options})
    _check_beam_args(made.run)
    info = adopt_folder(made, say)
    say(describe_adopted(info, made.rewrite or tfrecords))
    return info


def telemetry(input: str, **options: Any) -> None:
    """Prints the streams of telemetry inside a video, and writes their rows if ``csv`` names a file.

    Example: ``telemetry("GX010042.MP4", csv="GX010042.csv")``.

    Raises:
        UserError: if the video cannot be read, or holds none.
    """
    made = make_options(TelemetryListing, {"input": input, **options})
    from pipelines.labels.cells import TelemetryError
    from pipelines.labels.embedded import describe_telemetry, telemetry_csv
    from tfrecords_schema.storage import write_bytes

    try:
        say("\n".join(describe_telemetry(made.input, made.input)))
        if made.csv is not None:
            write_bytes(made.csv, b"".join(telemetry_csv(made.input, made.input)))
            say(f"rows: {made.csv}")
    except TelemetryError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{made.input} cannot be read: {error.strerror}") from error


def merge(tfrecords: Sequence[str], output: str, **options: Any) -> DatasetInfo:
    """Copies several datasets of the same kind into one, with the classes of all of them.

    Example: ``merge(["monday", "tuesday"], "week").spec.label.class_names``.

    Raises:
        UserError: if records differ in more than classes, datasets share a source, a group lies in different
            splits, or a shard is damaged.
    """
    made = make_options(MergeOptions, {"tfrecords": tfrecords, "output": output, **options})
    from pipelines.build.summary import describe_dataset
    from pipelines.datasets.merge import merge_datasets

    info = merge_datasets(made, say)
    say(describe_dataset(info, made.output))
    return info


def say(text: str) -> None:
    """Prints ``text``, in which names cannot control the terminal."""
    print(printable(text), flush=True)  # noqa: T201


def _check_outside(source: str, flag: str, output: str) -> None:
    """Checks that the output is not inside the input, where the next build would read it."""
    if is_inside(output, source):
        raise UsageError(f"{flag} must be outside --input, got {output} inside {source}")


def _check_beam_args(run: RunOptions) -> None:
    if run.beam_args:
        from pipelines.runners.local import parse_beam_args

        parse_beam_args(run.beam_args, workers=run.local_workers)


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        call: the Python function; takes the flags as keywords.
        options: declare the flags.
        summary: one phrase for the list of verbs and for the verb's help.
        example: flags of a command that works.
        again: a sentence that says what a stopped command does when it is typed again.
        notes: added to the verb's help.
        next: a command that takes the result, with the names of flags in braces; printed last.
    """

    call: Callable[..., Any]
    options: type[Options]
    summary: str
    example: str
    again: str = "It starts from the beginning; a file under its own name is complete"
    notes: str = ""
    next: str = ""


_GOES_ON = "The build goes on where it stopped: complete shards are kept"
_VALIDATE = "pipelines validate --tfrecords {output} --report report.html"

VERBS = {
    "videos": Verb(
        build_videos,
        VideosOptions,
        "Builds a dataset from videos",
        "--input clips --output dataset --num_frames 16 --frame_rate 10 --size 128x171",
        _GOES_ON,
        next=_VALIDATE,
    ),
    "dashcam": Verb(
        build_dashcam,
        DashcamOptions,
        "Builds a dataset from dash-cam footage",
        "--input drives --output dataset --telemetry '{stem}.csv' --time_column t --label_columns speed",
        _GOES_ON,
        next=_VALIDATE,
    ),
    "validate": Verb(
        validate,
        ValidationOptions,
        "Checks a dataset",
        "--tfrecords dataset --report report.html",
        notes="The exit status is 0 if no check fails, 1 if one does, and 2 if none can be made.",
        next="trainer --tfrecords {tfrecords}",
    ),
    "predict": Verb(
        predict,
        PredictionOptions,
        "Predicts footage with a trained model",
        "--model run --input drives --output predictions.csv --overlay drawn",
        "A prediction of files goes on where it stopped",
    ),
    "show": Verb(
        show,
        ShowOptions,
        "Describes a dataset: frames, splits, classes by split, options",
        "--tfrecords dataset --page sequences.html",
    ),
    "telemetry": Verb(
        telemetry,
        TelemetryListing,
        "Lists the telemetry inside a video",
        "--input GX010042.MP4 --csv GX010042.csv",
    ),
    "merge": Verb(
        merge,
        MergeOptions,
        "Copies several datasets into one",
        "monday tuesday --output week",
        _GOES_ON.replace("build", "merge"),
        next=_VALIDATE,
    ),
    "adopt": Verb(
        adopt,
        AdoptOptions,
        "Describes TFRecords that another program wrote",
        "--tfrecords records --num_frames 16",
        next="pipelines validate --tfrecords {tfrecords} --report report.html",
    ),
}

for _verb in VERBS.values():
    document_call(_verb.call, _verb.options)

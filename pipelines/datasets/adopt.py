"""Describes TFRecords that another program wrote, in place, or copies them into a dataset as ours."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.datasets.show import describe_contents
from pipelines.errors import UsageError, UserError
from pipelines.options.verbs import AdoptOptions
from tfrecords_schema import storage
from tfrecords_schema.codec import parse_json
from tfrecords_schema.info import FILE_NAME, DatasetInfo, DatasetInfoError
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SequenceSpec, SpecError, load_spec_and_map
from tfrecords_schema.split_names import split_of_file, standard_split

# OpenCV is imported by the functions that need it: other verbs start without.
if TYPE_CHECKING:
    from tfrecords_schema.foreign.records import KeyMap
    from tfrecords_schema.foreign.scan import AdoptPlan

TFDS_FEATURES = "features.json"


def adopt_folder(options: AdoptOptions, say: Callable[[str], None]) -> DatasetInfo:
    """Scans the records of a folder and describes them in it, or copies them; returns the description."""
    folder = Path(options.tfrecords)
    if not folder.is_dir():
        raise UserError(f"--tfrecords must be a folder, got {options.tfrecords}")
    if options.rewrite is None:
        _check_undescribed(folder)
    from tfrecords_schema.foreign.files import AdoptError, plan_files
    from tfrecords_schema.foreign.scan import AdoptPlan, adopt

    try:
        spec = None
        if options.spec is not None:
            spec, key_map = load_spec_and_map(options.spec)
            if key_map and options.key_map:
                raise UsageError("--map and the map in --spec say the same. Leave one out")
            options = replace(options, key_map=options.key_map or tuple(key_map.items()))
        nested = options.rewrite is not None
        files = plan_files(folder, options.split_globs, nested=nested)
        for line in _describe_splits(folder, files, guessed=not options.split_globs):
            say(line)
        plan = AdoptPlan(
            files=files,
            key_map=_find_key_map(options, files, say),
            class_names=_read_names(options, folder),
        )
        if options.rewrite is not None:
            from pipelines.datasets.rewrite import rewrite_records

            return rewrite_records(plan, spec, options, say)
        _check_uncompressed(plan)
        info = adopt(folder, spec, num_frames=options.num_frames, size=options.size, plan=plan)
    except (AdoptError, CorruptRecordError, SpecError) as error:
        raise UserError(str(error)) from error
    info = replace(info, options=sampling_options(info.spec, options, info.options))
    info.save(options.tfrecords)
    return info


def describe_adopted(info: DatasetInfo, directory: str) -> str:
    """Returns the contents of an adopted dataset, and the classes that have no records."""
    lines = [describe_contents(info, directory)]
    counts = [split.label_counts for split in info.splits.values() if split.label_counts]
    if counts and not any(own[0] for own in counts):
        lines.append(
            "note: no record has class 0. If their classes count from 1, copy them with --rewrite and "
            "--first_label 1"
        )
    return "\n".join(lines)


def sampling_options(
    spec: SequenceSpec, options: AdoptOptions, found: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the build options that footage needs to become like the records; no rate if it is unknown."""
    rate = options.frame_rate or found.get("frame_rate")
    image = spec.image
    return {
        "num_frames": spec.num_frames,
        **({} if rate is None else {"frame_rate": str(rate)}),
        **(
            {}
            if image is None
            else {
                "height": image.height,
                "width": image.width,
                "image_format": image.format.lower(),
                "grayscale": image.channels == 1,
            }
        ),
    }


def _check_undescribed(folder: Path) -> None:
    """Checks that a folder has no ``dataset_info.json``, of any program."""
    target = folder / FILE_NAME
    if not target.exists():
        return
    try:
        DatasetInfo.load(str(folder))
    except DatasetInfoError:
        raise UserError(
            f"{target} is the description of another program. Leave it, and copy the records into a new "
            "dataset with --rewrite DIR"
        ) from None
    raise UserError(f"{target} is there already. Delete it to scan the records again")


def _describe_splits(
    folder: Path, files: Mapping[str, Sequence[Path]], *, guessed: bool
) -> list[str]:
    lines = []
    for split, own in files.items():
        names = [str(path.relative_to(folder)) for path in own]
        lines.append(f"{split}: {len(names)} file{'s' * (len(names) > 1)}, such as {names[0]}")
    names = [str(path.relative_to(folder)) for path in itertools.chain(*files.values())]
    if guessed and (unnamed := [name for name in names if not _names_split(name)]):
        lines.append(
            f"note: {len(unnamed)} of {len(names)} files name no split and are taken as train, for example "
            f"{unnamed[0]}. If they are not, say so with --split, such as --split test='{unnamed[0]}'"
        )
    return lines


def _names_split(name: str) -> bool:
    *folders, file = Path(name).parts
    return bool(split_of_file(file) or any(map(standard_split, folders)))


def _find_key_map(
    options: AdoptOptions, files: Mapping[str, Sequence[Path]], say: Callable[[str], None]
) -> KeyMap:
    """Returns the map that the user or TFDS's description says; refuses keys that nobody has explained."""
    from tfrecords_schema.foreign.key_survey import survey_keys
    from tfrecords_schema.foreign.records import KeyMap, parse_key_map

    if options.key_map:
        return parse_key_map(dict(options.key_map), options.shape or (), options.first_label)
    found = _read_tfds(Path(options.tfrecords))
    if found is not None:
        pairs, _ = found
        say(f"{TFDS_FEATURES} says: --map {','.join(map('='.join, pairs.items()))}")
        return parse_key_map(pairs, options.shape or (), options.first_label)
    survey = survey_keys([path for own in files.values() for path in own])
    if survey.is_ours or not survey.records:
        return KeyMap(first_label=options.first_label)
    say("\n".join(survey.describe()))
    command = "--map image=KEY,label=KEY --rewrite NEW_FOLDER"
    remedy = f"Say which of their keys hold images and labels, and copy them: {command}"
    if proposal := survey.propose():
        words = ["pipelines", "adopt", "--tfrecords", options.tfrecords, "--map", proposal]
        remedy = f"If this is right, type: {shlex.join([*words, '--rewrite', 'NEW_FOLDER'])}"
    raise UserError(f"expected frames (image/encoded) or signals (NAME/feature/floats). {remedy}")


def _read_names(options: AdoptOptions, folder: Path) -> tuple[str, ...]:
    """Returns the names of classes in the file of ``--class_names``, or TFDS's; none without."""
    path = None if options.class_names is None else Path(options.class_names)
    if path is None:
        found = _read_tfds(folder)
        label = found[0].get("label") if found and not options.key_map else None
        path = folder / f"{label}.labels.txt"
        if not path.is_file():
            return ()
    try:
        names = storage.read_bytes(path).decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--class_names {path} cannot be read: {error}") from error
    named = tuple(name.strip() for name in names if name.strip())
    if len(set(named)) < len(named) or not named:
        raise UserError(f"--class_names {path} must hold one name per line, each once")
    return named


def _read_tfds(folder: Path) -> tuple[dict[str, str], Path] | None:
    """Returns the map of records of TFDS, and the file that says it; None if none is there.

    TFDS stores videos as a list of encoded images, under the path of the feature:
    https://github.com/tensorflow/datasets/tree/master/tensorflow_datasets/core/features
    """
    path = folder / TFDS_FEATURES
    if not path.is_file():
        return None
    try:
        features = parse_json(storage.read_bytes(path))["featuresDict"]["features"]
        kinds = {
            name: str(feature["pythonClassName"]).rsplit(".", 1)[-1]
            for name, feature in features.items()
        }
        videos = [
            name
            for name, kind in kinds.items()
            if kind == "Video"
            or (kind == "Sequence" and "image" in features[name]["sequence"]["feature"])
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not as TFDS writes it ({error!r:.100}): give --map") from error
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    if len(videos) != 1 or len(labels) > 1:
        raise UsageError(
            f"{path} has the videos {', '.join(videos) or 'none'} and the labels "
            f"{', '.join(labels) or 'none'}: say which to take with --map"
        )
    return {"image": videos[0], **({"label": labels[0]} if labels else {})}, path


def _check_uncompressed(plan: AdoptPlan) -> None:
    """Checks that no file is compressed, since readers would not find records in it."""
    from tfrecords_schema.foreign.files import is_compressed

    for path in itertools.chain(*plan.files.values()):
        if is_compressed(path):
            raise UserError(
                f"{path} is compressed, which readers do not take: copy the records with --rewrite DIR"
            )

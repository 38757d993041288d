"""Labels of sample folders: their kind, and the `LabelSpec` of the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.errors import UserError
from pipelines.labels.annotations import FoundLabel, name_targets
from pipelines.options.dataset import LabelOptions
from pipelines.sources.classes import order_classes
from tfrecords_schema.spec import LabelSpec, Task


class LabelShape(NamedTuple):
    """The kind of a label, which all sources of a dataset share.

    Attributes:
        task: see `LabelSpec`.
        targets: number of regression targets; 0 for classes.
        by_frame: True if every frame has a label, False if the sequence has one.
    """

    task: Task
    targets: int = 0
    by_frame: bool = False

    def __str__(self) -> str:
        if self.task == "multilabel":
            return "a list of classes"
        numbers = "1 number" if self.targets == 1 else f"{self.targets} numbers"
        what = numbers if self.task == "regression" else "a class"
        return f"{what} per frame" if self.by_frame else what


@dataclass(frozen=True)
class SampleLabel:
    """The label of one sample folder.

    Attributes:
        shape: its kind.
        values: regression targets of the sequence; empty if every frame has its own.
        classes: sorted classes of the sequence, or of all its frames.
        rows: regression targets of each frame; empty if the sequence has its own.
    """

    shape: LabelShape
    values: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    rows: tuple[tuple[float, ...], ...] = ()


def read_sample_label(found: FoundLabel, options: LabelOptions, num_frames: int) -> SampleLabel:
    """Returns the label of a folder of ``num_frames`` frames, for the sequence or by frame.

    It is by frame if ``--label_at`` selects certain frames, or if the annotation holds a list of lists.
    Raises `AnnotationError` if the number of entries is not ``num_frames``, or a list repeats a class.
    """
    if options.label_at == "last" and found.kind != "row":
        entries = found.of_sequence()
        if found.kind == "number":
            return SampleLabel(LabelShape("regression", len(entries)), values=entries)
        task: Task = "multilabel" if found.is_list else "classification"
        return SampleLabel(LabelShape(task), classes=entries)
    rows = found.by_frame(num_frames)
    if found.kind == "class":
        classes = tuple(sorted(set(rows)))
        return SampleLabel(LabelShape("classification", by_frame=True), classes=classes)
    return SampleLabel(LabelShape("regression", len(rows[0]), by_frame=True), rows=rows)


def choose_shape(labels: Mapping[str, SampleLabel], expression: str) -> LabelShape:
    """Returns the kind that most of the ``labels`` by source id have, which ``expression`` found."""
    common = Counter(label.shape for label in labels.values()).most_common(2)
    if len(common) == 2 and common[0][1] == common[1][1]:
        examples = [
            f"{shape} in {next(id for id, label in labels.items() if label.shape == shape)!r}"
            for shape, _ in common
        ]
        raise UserError(
            f"expected labels of one kind at {expression!r}, got {' and '.join(examples)}, "
            f"in {common[0][1]} folders each. Adapt --label, or remove the folders of one kind"
        )
    return common[0][0]


def target_names(shape: LabelShape, options: LabelOptions, expression: str) -> tuple[str, ...]:
    """Returns the names of the targets of a label, which the user or the expression gives."""
    return options.label_names or name_targets(expression, shape.targets)


def label_spec(
    shape: LabelShape, classes: Iterable[str], options: LabelOptions, expression: str
) -> LabelSpec:
    """Returns the label of a dataset's records.

    The user gives the names of targets, or else they come from ``expression``, the value of ``--label``.
    """
    per_frame = options.label_at == "each"
    if shape.task == "regression":
        for flag, names in (
            ("--label_names", options.label_names),
            ("--label_units", options.label_units),
        ):
            if names and len(names) != shape.targets:
                raise UserError(
                    f"{flag} must have one entry per number of the label {expression!r} "
                    f"({shape.targets}), got {','.join(names)}"
                )
        names = target_names(shape, options, expression)
        return LabelSpec(
            task="regression",
            target_names=names,
            target_units=options.label_units,
            target_offsets=options.offsets_of(names),
            per_frame=per_frame,
        )
    if options.label_names or options.label_units:
        raise UserError(
            f"--label_names and --label_units need labels that are numbers, got {shape} at {expression!r}. "
            "Leave them out"
        )
    if options.label_at == "mean":
        raise UserError(
            f"--label_at mean needs labels that are numbers, got {shape} at {expression!r}. "
            "Use last, center or each"
        )
    return LabelSpec(
        task=shape.task, class_names=order_classes(classes, options), per_frame=per_frame
    )

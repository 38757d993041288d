"""Describes what a dataset holds in lines of text, for both programs: splits, classes and targets.

Names come from the dataset, so they are escaped and shortened, and only some of many classes are shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tfrecords_schema.info import DatasetInfo, TargetStatistics
from tfrecords_schema.moments import Moments
from tfrecords_schema.report.pages import plural
from tfrecords_schema.running.terminal import printable_name as printable
from tfrecords_schema.running.terminal import terminal_width
from tfrecords_schema.spec import LabelSpec

MAX_ROWS = 20
"""Classes or targets in a table, and lines of a list, unless more are asked for."""

SHORT_CLIPS, FAILED = "short_clips", "failed"
"""Reasons in `DatasetInfo.dropped`."""
KEEP_SHORT_CLIPS = "--short_clips pad or loop, or a smaller --num_frames, keeps them"
ADD_SOURCES = (
    "add sources of them, or leave them out (--classes). Where no list gives the splits, --stratify on, "
    "another --seed or other --splits may help"
)

_REASONS = {
    SHORT_CLIPS: ("shorter than --num_frames", KEEP_SHORT_CLIPS),
    FAILED: ("failed or damaged", "failures.jsonl says why"),
}
# An extreme value this many standard deviations from the others, of at least so many, is an outlier.
_MAX_SPREADS, _MIN_VALUES = 12, 10
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Cell(NamedTuple):
    """Contents of a split that have one class; ``sources`` is 0 when unknown."""

    sources: int = 0
    sequences: int = 0

    @property
    def is_empty(self) -> bool:
        """True without a sequence or a source that may give one."""
        return not self.sequences and not self.sources

    def __str__(self) -> str:
        if not self.sources:
            return str(self.sequences or "none")
        return f"{self.sources} / {self.sequences}"


def format_bytes(count: int) -> str:
    """Returns ``count`` with a binary unit: ``1.5 MiB``."""
    power = min(max(count.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{count / 1024**power:.{min(power, 1)}f} {_UNITS[power]}"


def format_table(*rows: Sequence[object]) -> list[str]:
    """Returns aligned lines: the first column to the left, the others to the right.

    In a terminal that is too narrow, the columns that do not fit follow below, beside the first one again.
    """
    columns = [[str(cell) for cell in column] for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    limit = terminal_width() or sum(widths) + 2 * len(widths)
    parts: list[list[int]] = [[]]
    for index in range(1, len(columns)):
        if parts[-1] and sum(widths[i] + 2 for i in (0, *parts[-1], index)) > limit:
            parts.append([])
        parts[-1].append(index)
    lines = []
    for part in parts:
        template = "  ".join(f"{{:{'>' if i else '<'}{widths[i]}}}" for i in (0, *part))
        lines += [
            f"  {template.format(*(columns[i][r] for i in (0, *part)))}" for r in range(len(rows))
        ]
    return lines


def list_some(texts: Iterable[str], shown: int = 3, separator: str = ", ") -> str:
    """Returns the first texts, and the number of the others: ``a, b, c and 4 more``."""
    texts = list(texts)
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return separator.join(texts[:shown]) + more


def cut_lines(lines: Iterable[str], what: str, shown: int = MAX_ROWS) -> list[str]:
    """Returns the first lines, and one with the number of the others: ``and 4 more reasons``."""
    lines = list(lines)
    more = [f"  and {plural(len(lines) - shown, f'more {what}')}"] if len(lines) > shown else []
    return [*lines[:shown], *more]


def name_some(names: Iterable[str]) -> str:
    """Returns the first names, quoted, and the number of the others: ``'a', 'b', 'c' and 4 more``."""
    return list_some(map(repr, names))


def shorten(text: str, width: int = 32) -> str:
    """Returns ``text`` without its middle if it is longer than ``width``."""
    head = (width - 2) // 2
    return text if len(text) <= width else f"{text[:head]}...{text[head + 3 - width :]}"


def _show(name: str) -> str:
    return shorten(printable(name))


def describe_label(label: LabelSpec) -> str:
    """Returns the task and the first names: ``classification of run, walk``."""
    if label.task == "none":
        return "no labels"
    names = _name_targets(label) or label.class_names
    by_frame = " by frame" if label.per_frame else ""
    return f"{label.task} of {list_some(map(_show, names), 10)}{by_frame}"


def _name_targets(label: LabelSpec) -> list[str]:
    """Returns the targets with their units and offsets: ``time (s) less 1700000000``."""
    units = label.target_units or ("",) * len(label.target_names)
    return [
        (f"{name} ({unit})" if unit else name) + (f" less {offset:.15g}" if offset else "")
        for name, unit, offset in zip(label.target_names, units, label.offsets, strict=True)
    ]


def class_cells(info: DatasetInfo) -> dict[str, list[Cell]]:
    """Returns sources and sequences of each class by split, in label order, of a complete dataset."""
    # A description of an earlier version, or one that was edited, may hold fewer counts.
    return {
        name: [
            Cell(sum(split.class_sources[i : i + 1]), sum(split.label_counts[i : i + 1]))
            for i in range(info.spec.label.num_classes)
        ]
        for name, split in info.splits.items()
    }


def class_table(
    label: LabelSpec, cells: Mapping[str, Sequence[Cell]], *, max_rows: int = MAX_ROWS
) -> list[str]:
    """Returns a table with a row for each class and a column for each split.

    Of more than ``max_rows`` classes it shows those that a split lacks, then the smallest.
    """
    columns = [column for column in cells.values() if not all(cell.is_empty for cell in column)]

    def size(index: int) -> tuple[bool, int]:
        own = [column[index] for column in columns]
        return not any(cell.is_empty for cell in own), sum(cell.sequences for cell in own)

    chosen: Sequence[int] = range(label.num_classes)
    if len(chosen) > max_rows:
        chosen = sorted(chosen, key=size)[:max_rows]
    if not chosen or not cells:
        return []
    unit = "frames" if label.per_frame else "sequences"
    has_sources = any(cell.sources for column in cells.values() for cell in column)
    lines = format_table(
        (f"{'sources / ' if has_sources else ''}{unit}", *map(_show, cells)),
        *((_show(label.class_names[i]), *(column[i] for column in cells.values())) for i in chosen),
    )
    hidden = label.num_classes - len(chosen)
    return lines + ([f"  and {plural(hidden, 'larger class')}"] if hidden else [])


def target_table(
    label: LabelSpec,
    splits: Mapping[str, Sequence[Moments | TargetStatistics]],
    *,
    max_rows: int = MAX_ROWS,
) -> list[str]:
    """Returns a table with the statistics of each regression target, a row for each split."""
    names = _name_targets(label)
    rows = [
        (_show(name), _show(split), *(f"{v:.5g}" for v in (own.mean, own.std, own.min, own.max)))
        for i, name in enumerate(names[:max_rows])
        for split, targets in splits.items()
        for own in targets[i : i + 1]
    ]
    if not rows:
        return []
    lines = format_table(("target", "split", "mean", "std", "min", "max"), *rows)
    hidden = len(names) - len(names[:max_rows])
    return lines + ([f"  and {plural(hidden, 'target')} more"] if hidden else [])


def split_table(info: DatasetInfo) -> list[str]:
    """Returns a table with the contents of each split of a complete dataset."""
    rows = [
        (
            _show(name),
            *(n or ("unknown" if split.num_records else 0) for n in (split.sources, split.groups)),
            len(split.shards),
            split.num_records,
            format_bytes(split.num_bytes),
        )
        for name, split in info.splits.items()
    ]
    return format_table(("split", "sources", "groups", "shards", "sequences", "bytes"), *rows)


def label_table(info: DatasetInfo, *, max_rows: int = MAX_ROWS) -> list[str]:
    """Returns the table of classes or targets by split of a complete dataset."""
    label = info.spec.label
    if label.task == "regression":
        targets = {name: split.targets for name, split in info.splits.items()}
        return target_table(label, targets, max_rows=max_rows)
    return class_table(label, class_cells(info), max_rows=max_rows)


def describe_dropped(info: DatasetInfo) -> list[str]:
    """Returns a line for each reason for which sources gave no sequence, with their classes."""
    lines = []
    for reason, (text, remedy) in _REASONS.items():
        if counts := info.dropped.get(reason):
            pairs = zip(info.spec.label.class_names, counts, strict=False)
            ranked = sorted(pairs, key=lambda pair: -pair[1])
            held = list_some(f"{_show(name)} {count}" for name, count in ranked if count)
            lines.append(f"{plural(sum(counts), 'source')} {text}, so dropped: {held} ({remedy})")
    return lines


def empty_classes(info: DatasetInfo, split: str) -> list[int]:
    """Returns the classes, as indices, without a record in ``split``."""
    return [i for i, cell in enumerate(class_cells(info).get(split, ())) if cell.is_empty]


def class_warnings(info: DatasetInfo) -> list[str]:
    """Returns sentences about classes that a complete dataset or one of its splits lacks."""
    cells = class_cells(info)
    gone = _missing_everywhere(cells)
    lines = [f"no record is of class {explain_losses(info, gone)}"] if gone else []
    return lines + split_warnings(info.spec.label, cells, "record")


def value_warnings(info: DatasetInfo) -> list[str]:
    """Returns sentences about targets and signals that are constant in a split, or far from all others."""
    spec, lines = info.spec, []
    for split, own in info.splits.items():
        columns = dict(zip(spec.label.target_names, own.targets, strict=False))
        for name, parts in own.signals.items():
            columns |= {f"{name}[{i}]" if len(parts) > 1 else name: v for i, v in enumerate(parts)}
        for name, value in columns.items():
            what = f"{_show(name)} in {_show(split)}"
            if value.min == value.max and value.count > 1:
                lines.append(f"{what} is {value.min:g} in all {value.count} values")
            elif (spreads := _spreads_beyond(value)) > _MAX_SPREADS:
                far = max(value.max, value.min, key=lambda end: abs(end - value.mean))
                lines.append(
                    f"{what} reaches {far:g}, {spreads:.0f} standard deviations from the mean of the other "
                    "values: `pipelines validate` names the records"
                )
    return lines


def _spreads_beyond(value: TargetStatistics) -> float:
    """Returns the distance of the extreme value from the others' mean, in the others' standard deviations."""
    rest = value.count - 1
    if rest < _MIN_VALUES:
        return 0.0
    far = max(abs(end - value.mean) for end in (value.min, value.max))
    # Without one value, mean and sum of squares follow from those of all.
    squares = value.count * value.std**2 - far**2 * value.count / rest
    distance = far * value.count / rest
    return distance / max(math.sqrt(max(squares, 0.0) / rest), 1e-9 * distance)


def explain_losses(info: DatasetInfo, classes: Sequence[int]) -> str:
    """Returns the names of ``classes``, how many of their sources were dropped, why, and what to do."""
    lost = {r: [sum(info.dropped.get(r, ())[i : i + 1]) for i in classes] for r in _REASONS}
    named = list_some(
        f"{shorten(info.spec.label.class_names[i])!r}"
        + (f" ({plural(sum(counts), 'source')} dropped)" if any(counts) else "")
        for i, *counts in zip(classes, *lost.values(), strict=True)
    )
    reasons = [f"{text} ({remedy})" for r, (text, remedy) in _REASONS.items() if any(lost[r])]
    return f"{named}: {'; '.join(reasons) or ADD_SOURCES}"


def _missing_everywhere(cells: Mapping[str, Sequence[Cell]]) -> list[int]:
    """Returns the classes, as indices, that no split has."""
    rows = zip(*cells.values(), strict=False)
    return [i for i, row in enumerate(rows) if all(cell.is_empty for cell in row)]


def split_warnings(
    label: LabelSpec, cells: Mapping[str, Sequence[Cell]], what: str = "source"
) -> list[str]:
    """Returns sentences about splits that have some classes, but lack classes of other splits."""
    gone = set(_missing_everywhere(cells))
    splits_of: dict[tuple[int, ...], list[str]] = {}  # by the classes that they lack
    for split, column in cells.items():
        lacks = tuple(i for i, cell in enumerate(column) if cell.is_empty and i not in gone)
        if lacks and len(lacks) + len(gone) < len(column):
            splits_of.setdefault(lacks, []).append(printable(split))
    return [
        f"no {what} of {name_some(shorten(label.class_names[i]) for i in lacks)} is in "
        f"{list_some(splits, separator=' or ')}: {ADD_SOURCES}"
        for lacks, splits in splits_of.items()
    ]

"""Describes what a dataset holds in lines of text, for both programs: splits, classes and targets.

Names come from the dataset, so they are escaped and shortened, and only some of many classes are shown.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tfrecords_schema.info import DatasetInfo, TargetStatistics
from tfrecords_schema.moments import Moments
from tfrecords_schema.report.pages import plural
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.terminal import printable_name as printable

MAX_ROWS = 20
"""Classes or targets in a table, unless all are asked for."""

SHORT_CLIPS, FAILED = "short_clips", "failed"
"""Reasons in `DatasetInfo.dropped`."""
KEEP_SHORT_CLIPS = "--short_clips pad or loop, or a smaller --num_frames, keeps them"
SPREAD_CLASSES = "give --stratify on, another --seed or other --splits, or add sources"

_REASONS = {SHORT_CLIPS: "shorter than --num_frames", FAILED: "failed or damaged"}
_REMEDIES = {SHORT_CLIPS: KEEP_SHORT_CLIPS, FAILED: "failures.jsonl says why"}
_WIDTH, _MAX_NAME, _MAX_NAMED, _MAX_CLASSES = 80, 32, 3, 10
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Cell(NamedTuple):
    """Contents of a split that have one class; ``sources`` is None when unknown."""

    sources: int | None
    sequences: int

    @property
    def is_empty(self) -> bool:
        """True without a sequence or a source that may give one."""
        return not self.sequences and not self.sources

    def __str__(self) -> str:
        if self.is_empty:
            return "none"
        return str(self.sequences) if self.sources is None else f"{self.sources} / {self.sequences}"


def format_bytes(count: int) -> str:
    """Returns ``count`` with a binary unit: ``1.5 MiB``."""
    power = min(max(count.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{count / 1024**power:.{min(power, 1)}f} {_UNITS[power]}"


def format_table(*rows: Sequence[object]) -> list[str]:
    """Returns aligned lines: the first column to the left, the others to the right."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    template = "  ".join(f"{{!s:{'>' if i else '<'}{width}}}" for i, width in enumerate(widths))
    return [f"  {template.format(*row)}" for row in rows]


def name_some(names: Iterable[str]) -> str:
    """Returns the first names, and the number of the others: ``'a', 'b', 'c' and 4 more``."""
    names = list(names)
    more = len(names) - _MAX_NAMED
    return ", ".join(map(repr, names[:_MAX_NAMED])) + (f" and {more} more" if more > 0 else "")


def shorten(text: str, width: int = _MAX_NAME) -> str:
    """Returns ``text`` without its middle if it is longer than ``width``."""
    head = (width - 2) // 2
    return text if len(text) <= width else f"{text[:head]}...{text[head + 3 - width :]}"


def describe_label(label: LabelSpec) -> str:
    """Returns the task and the first names: ``classification of run, walk``."""
    if label.task == "none":
        return "no labels"
    names = _name_targets(label) or label.class_names
    shown = ", ".join(shorten(printable(name)) for name in names[:_MAX_CLASSES])
    more = f", ... ({len(names)})" if len(names) > _MAX_CLASSES else ""
    return f"{label.task} of {shown}{more}{' by frame' if label.per_frame else ''}"


def _name_targets(label: LabelSpec) -> list[str]:
    """Returns the targets with their units and offsets: ``time (s) less 1700000000``."""
    units = label.target_units or ("",) * len(label.target_names)
    return [
        (f"{name} ({unit})" if unit else name) + (f" less {offset:.15g}" if offset else "")
        for name, unit, offset in zip(label.target_names, units, label.offsets, strict=True)
    ]


def class_cells(info: DatasetInfo) -> dict[str, list[Cell]]:
    """Returns sources and sequences of each class by split, in label order, of a complete dataset."""
    count, cells = info.spec.label.num_classes, {}
    for name, split in info.splits.items():
        is_known = len(split.class_sources) == count
        sources = split.class_sources if is_known else (None,) * count
        # A description that was edited may hold fewer counts.
        records = (*split.label_counts, *(0,) * count)
        cells[name] = [Cell(*cell) for cell in zip(sources, records, strict=False)]
    return cells


def class_table(
    label: LabelSpec, cells: Mapping[str, Sequence[Cell]], *, max_rows: int | None = MAX_ROWS
) -> list[str]:
    """Returns a table with a row for each class and a column for each split, at most 80 columns wide.

    Of more than ``max_rows`` classes it shows those that a split lacks, then the smallest.
    """
    columns = [column for column in cells.values() if not all(cell.is_empty for cell in column)]
    chosen: Iterable[int] = range(label.num_classes)
    hidden = 0 if max_rows is None else max(0, label.num_classes - max_rows)
    if hidden:

        def size(index: int) -> tuple[bool, int]:
            own = [column[index] for column in columns]
            return not any(cell.is_empty for cell in own), sum(cell.sequences for cell in own)

        chosen = heapq.nsmallest(label.num_classes - hidden, chosen, key=size)
    rows = [
        (printable(label.class_names[i]), *(str(column[i]) for column in cells.values()))
        for i in chosen
    ]
    if not rows or not cells:
        return []
    unit = "frames" if label.per_frame else "sequences"
    has_sources = any(cell.sources is not None for column in cells.values() for cell in column)
    header = (f"{'sources / ' if has_sources else ''}{unit}", *map(printable, cells))
    return _fit(header, rows) + ([f"  and {plural(hidden, 'larger class')}"] if hidden else [])


def target_table(
    label: LabelSpec,
    splits: Mapping[str, Sequence[Moments | TargetStatistics]],
    *,
    max_rows: int | None = MAX_ROWS,
) -> list[str]:
    """Returns a table with the statistics of each regression target, a row for each split."""
    rows = [
        (
            *(shorten(printable(text)) for text in (name, split)),
            *(f"{value:.5g}" for value in (own.mean, own.std, own.min, own.max)),
        )
        for i, name in enumerate(_name_targets(label)[:max_rows])
        for split, targets in splits.items()
        for own in targets[i : i + 1]
    ]
    hidden = len(label.target_names[max_rows:]) if max_rows else 0
    if not rows:
        return []
    lines = format_table(("target", "split", "mean", "std", "min", "max"), *rows)
    return lines + ([f"  and {plural(hidden, 'target')} more"] if hidden else [])


def split_table(info: DatasetInfo) -> list[str]:
    """Returns a table with the contents of each split of a complete dataset."""
    header = ("split", "sources", "groups", "shards", "sequences", "bytes")
    rows = [
        (
            shorten(printable(name)),
            *(
                count or ("unknown" if split.num_records else 0)
                for count in (split.sources, split.groups)
            ),
            len(split.shards),
            split.num_records,
            format_bytes(split.num_bytes),
        )
        for name, split in info.splits.items()
    ]
    return format_table(header, *rows)


def label_table(info: DatasetInfo, *, max_rows: int | None = MAX_ROWS) -> list[str]:
    """Returns the table of classes or targets by split of a complete dataset."""
    label = info.spec.label
    if label.task == "regression":
        targets = {name: split.targets for name, split in info.splits.items()}
        return target_table(label, targets, max_rows=max_rows)
    return class_table(label, class_cells(info), max_rows=max_rows)


def describe_dropped(info: DatasetInfo) -> list[str]:
    """Returns a line for each reason for which sources gave no sequence, with their classes."""
    lines, names = [], info.spec.label.class_names
    for reason, counts in info.dropped.items():
        ranked = heapq.nlargest(
            _MAX_NAMED, zip(counts, map(printable, names), strict=False), key=lambda pair: pair[0]
        )
        shown = [f"{shorten(name)} {count}" for count, name in ranked if count]
        more = sum(map(bool, counts)) - len(shown)
        shown += [plural(more, "more class")] if more else []
        lines.append(
            f"{plural(sum(counts), 'source')} {_REASONS.get(reason, printable(reason))}, so dropped: "
            f"{', '.join(shown)}" + (f" ({_REMEDIES[reason]})" if reason in _REMEDIES else "")
        )
    return lines


def empty_classes(info: DatasetInfo, split: str) -> list[int]:
    """Returns the classes, as indices, without a record in ``split``."""
    return [i for i, cell in enumerate(class_cells(info).get(split, ())) if cell.is_empty]


def class_warnings(info: DatasetInfo) -> list[str]:
    """Returns sentences about classes that a complete dataset or one of its splits lacks, or half lost."""
    cells, lines = class_cells(info), []
    if gone := missing_everywhere(cells):
        what = "class" if len(gone) == 1 else "classes"
        lines.append(f"no record has the {what} {explain_losses(info, gone)}")
    return [*lines, *loss_warnings(info), *split_warnings(info.spec.label, cells, "record")]


def loss_warnings(info: DatasetInfo) -> list[str]:
    """Returns a sentence about the classes that lost more than half of their sources, but not all."""
    lost, kept = _count_losses(info)
    halved = [i for i, (had, gave) in enumerate(zip(lost, kept, strict=False)) if 0 < gave < had]
    if not halved:
        return []
    return [f"more than half of the sources were dropped of {explain_losses(info, halved)}"]


def explain_losses(info: DatasetInfo, classes: Sequence[int]) -> str:
    """Returns the names of ``classes``, how many of their sources were dropped, why, and what to do."""
    lost, kept = _count_losses(info)
    named = []
    for i in classes[:_MAX_NAMED]:
        counts = (
            f" ({lost[i]} of {kept[i] + lost[i]} sources dropped)" if any(lost[i : i + 1]) else ""
        )
        named.append(repr(shorten(info.spec.label.class_names[i])) + counts)
    more = len(classes) - len(named)
    gone = set(classes) <= set(missing_everywhere(class_cells(info)))
    others = "add footage of them, or leave them out (--classes)" if gone else SPREAD_CLASSES
    remedies = [
        f"{_REASONS[reason]} ({_REMEDIES[reason]})"
        for reason, counts in info.dropped.items()
        if reason in _REASONS and any(any(counts[i : i + 1]) for i in classes)
    ]
    return (
        f"{', '.join(named)}{f' and {more} more' if more else ''}: {'; '.join(remedies) or others}"
    )


def _count_losses(info: DatasetInfo) -> tuple[list[int], list[int]]:
    """Returns the sources of each class that were dropped, and those that gave records."""
    splits = class_cells(info).values()
    kept = [sum(cell.sources or 0 for cell in own) for own in zip(*splits, strict=False)]
    return [sum(counts) for counts in zip(*info.dropped.values(), strict=False)], kept


def missing_everywhere(cells: Mapping[str, Sequence[Cell]]) -> list[int]:
    """Returns the classes, as indices, that no split has."""
    rows = zip(*cells.values(), strict=False)
    return [i for i, row in enumerate(rows) if all(cell.is_empty for cell in row)]


def split_warnings(
    label: LabelSpec, cells: Mapping[str, Sequence[Cell]], what: str = "source"
) -> list[str]:
    """Returns sentences about splits that have some classes, but lack classes of other splits."""
    gone = set(missing_everywhere(cells))
    splits_of: dict[tuple[int, ...], list[str]] = {}  # by the classes that they lack
    for split, column in cells.items():
        lacks = tuple(i for i, cell in enumerate(column) if cell.is_empty and i not in gone)
        if lacks and len(lacks) + len(gone) < len(column):
            splits_of.setdefault(lacks, []).append(printable(split))
    lines = [
        f"no {what} of {name_some(shorten(label.class_names[i]) for i in lacks)} is in "
        f"{' or '.join(splits)}: {SPREAD_CLASSES}"
        for lacks, splits in itertools.islice(splits_of.items(), _MAX_NAMED)
    ]
    others = [split for splits in [*splits_of.values()][_MAX_NAMED:] for split in splits]
    return lines + ([f"{plural(len(others), 'more split')} lack classes"] if others else [])


def _fit(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a table whose first column is shortened, and the others are spread over several if needed."""
    header = tuple(shorten(text, 24) for text in header)
    longest = max(len(row[0]) for row in (header, *rows))
    widths = [max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)]
    room = _WIDTH - 2 - min(longest, _MAX_NAME)
    lines, first = [], 1
    while first < len(header):
        last = first + 1
        while last < len(header) and sum(widths[first : last + 1]) <= room:
            last += 1
        width = _WIDTH - 2 - sum(widths[first:last])
        block = [(shorten(row[0], width), *row[first:last]) for row in (header, *rows)]
        lines += format_table(*block)
        first = last
    return lines

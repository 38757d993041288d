"""Says what the records of another program hold, and proposes which of their keys are ours."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfrecords_schema import spec as keys
from tfrecords_schema.example_pb2 import Feature
from tfrecords_schema.examples import parse_example
from tfrecords_schema.foreign.files import scan_foreign_file
from tfrecords_schema.frame_size import frame_size
from tfrecords_schema.natural_order import natural_key
from tfrecords_schema.records import CorruptRecordError

_FILES, _RECORDS = 4, 50
"""Files that are looked into, and records in each."""
_LABEL_NAMES = ("label", "labels", "y", "class", "class_id", "target", "category")


@dataclass(eq=False)
class KeySeen:
    """One key, or several that differ in a number, in all records that were looked at.

    Attributes:
        by_frame: a feature list, or a numbered key.
        records: number of records that have it.
        kinds: types of its values: ``bytes``, ``int`` or ``float``.
        counts: numbers of values, or of steps.
        holds: what bytes are, such as ``JPEG 64x64``; ranges of numbers are in ``low`` and ``high``.
    """

    by_frame: bool
    records: int = 0
    kinds: set[str] = field(default_factory=set)
    counts: set[int] = field(default_factory=set)
    holds: set[str] = field(default_factory=set)
    low: float = float("inf")
    high: float = float("-inf")

    @property
    def is_image(self) -> bool:
        """True if all its values are JPEG or PNG files."""
        return bool(self.holds) and all(re.match("JPEG|PNG", what) for what in self.holds)

    def add(self, features: Iterable[Feature]) -> None:
        """Adds the values of a record."""
        self.records += 1
        count = steps = 0
        for feature in features:
            steps += 1
            kind = feature.WhichOneof("kind") or ""
            self.kinds.add(kind.removesuffix("_list").replace("int64", "int") or "nothing")
            values = getattr(feature, kind).value if kind else ()
            count += len(values)
            if kind == "bytes_list":
                self.holds.update(_describe_bytes(value) for value in values)
            elif values:
                self.low, self.high = min(self.low, *values), max(self.high, *values)
        self.counts.add(steps if self.by_frame else count)

    def cells(self) -> tuple[str, str, str, str]:
        """Returns type, records, numbers of values and contents, for a table."""
        counts = f"{min(self.counts)}" + f" to {max(self.counts)}" * (len(self.counts) > 1)
        if self.low <= self.high:
            held = f"{self.low:g}" + f" to {self.high:g}" * (self.low < self.high)
        else:
            shown = sorted(self.holds)
            held = ", ".join(shown[:3]) + f" and {len(shown) - 3} more" * (len(shown) > 3)
        kind = ", ".join(sorted(self.kinds))
        return kind, str(self.records), counts + " steps" * self.by_frame, held


@dataclass(frozen=True, kw_only=True)
class KeySurvey:
    """The keys in the first records of some files.

    Attributes:
        records: number of records that were looked at.
        seen: by name; numbered keys are one, with ``*`` for the number.
        has_lists: some of the records have feature lists.
    """

    records: int
    seen: Mapping[str, KeySeen]
    has_lists: bool

    @property
    def is_ours(self) -> bool:
        """True if the frames or signals have MediaSequence's keys."""
        return any(
            key == keys.IMAGE_ENCODED or re.fullmatch(r"(?!LABEL/)[^/]+/feature/floats", key)
            for key in self.seen
        )

    def describe(self) -> list[str]:
        """Returns a table of the keys."""
        kind = "SequenceExample" if self.has_lists else "Example"
        rows = [("key", "type", "records", "values", "contents")]
        rows += [(name, *own.cells()) for name, own in self.seen.items()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return [
            f"the first {self.records} records are tf.train.{kind} with these keys:",
            *("  " + "  ".join(map(str.ljust, row, (*widths, 0))).rstrip() for row in rows),
        ]

    def propose(self) -> str | None:
        """Returns a value of ``--map`` if the images, and perhaps the labels, can be only one key."""
        complete = {name: own for name, own in self.seen.items() if own.records == self.records}
        images = [name for name, own in complete.items() if own.is_image]
        if len(images) != 1:
            return None
        labels = [
            name
            for name, own in complete.items()
            if own.kinds <= {"int"} and own.counts == {1} and _last_word(name) in _LABEL_NAMES
        ]
        return f"image={images[0]}" + (f",label={labels[0]}" if len(labels) == 1 else "")


def survey_keys(files: Sequence[Path]) -> KeySurvey:
    """Looks at the first records of some of the files.

    Raises:
        SpecError: if a record is no ``Example``.
    """
    seen: dict[str, KeySeen] = {}
    records, has_lists = 0, False
    for path in files[:: max(1, len(files) // _FILES)][:_FILES]:
        for stored in itertools.islice(scan_foreign_file(path), _RECORDS):
            if isinstance(stored, CorruptRecordError):
                continue
            example = parse_example(stored.data)
            context, lists = example.context.feature, example.feature_lists.feature_list
            records += 1
            has_lists |= bool(lists)
            numbered: dict[str, list[str]] = defaultdict(list)
            for key in sorted(context, key=natural_key):
                numbered[re.sub(r"\d+", "*", key)].append(key)
            for name, own in numbered.items():
                for group, by_frame in (
                    [(own, True)] if len(own) > 1 else [([k], False) for k in own]
                ):
                    key = name if by_frame else group[0]
                    known = seen.setdefault(key, KeySeen(by_frame=by_frame))
                    known.add(context[each] for each in group)
            for key in sorted(lists):
                seen.setdefault(key, KeySeen(by_frame=True)).add(lists[key].feature)
    return KeySurvey(records=records, seen=dict(sorted(seen.items())), has_lists=has_lists)


def _last_word(name: str) -> str:
    return name.lower().rsplit("/", 1)[-1]


def _describe_bytes(data: bytes) -> str:
    kind = {b"\xff\xd8": "JPEG", b"\x89P": "PNG"}.get(data[:2])
    size = frame_size(data) if kind else None
    if kind and size:
        return f"{kind} {size[0]}x{size[1]}"
    if len(data) <= 40 and data.decode("utf-8", "replace").isprintable():
        return repr(data.decode("utf-8", "replace"))
    return f"{len(data)} bytes"

"""The table of a dataset's sources and their splits, ``sources.jsonl``.

A dataset that grows gets new lines at the end. The count ``sources_built`` in ``dataset_info.json`` says how
many lines belong to the dataset. So an append that is killed between the two files changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tfrecords_schema.codec import parse_json
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import StrPath, join
from tfrecords_schema.storage import open_stream
from tfrecords_schema.tables import list_some

SOURCES_FILE = "sources.jsonl"
SOURCES_COUNT = "sources_built"
_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRow:
    """One line of the table.

    Attributes:
        id, group: of the source.
        split: that its records are in; None if it was cut into blocks of several splits, or none was planned.
        digest: of its labels, and of the sizes and modification times of its files; "" if unknown.
    """

    id: str
    group: str
    split: str | None
    digest: str = ""


def read_sources(directory: StrPath, info: DatasetInfo) -> Iterator[SourceRow]:
    """Yields the sources of a dataset, one in memory at a time.

    Raises:
        DatasetInfoError: if the dataset has no table, or fewer lines than ``info`` says.
    """
    lines = info.counts.get(SOURCES_COUNT)
    if lines is None:
        raise DatasetInfoError(f"{directory} has no {SOURCES_FILE}: an earlier version built it")
    path, count = join(directory, SOURCES_FILE), 0
    try:
        with open_stream(path) as file:
            while count < lines and (line := file.readline(_MAX_LINE_BYTES)):
                row = SourceRow(**parse_json(line))
                texts = (row.id, row.group, row.digest, row.split or "")
                if not all(isinstance(text, str) for text in texts):
                    raise ValueError(f"line {count + 1} holds {line!r:.200}")
                yield row
                count += 1
    except (FileNotFoundError, TypeError, ValueError) as error:
        raise DatasetInfoError(f"{path} cannot be read as the table of sources: {error}") from error
    if count < lines:
        raise DatasetInfoError(
            f"{path} must have {lines} lines, as dataset_info.json says, and has {count}: copy it again"
        )


def check_distinct(tables: Sequence[Iterable[SourceRow]], names: Sequence[str]) -> Counter[str]:
    """Checks that several datasets have no source in common, and no group in different splits.

    Returns:
        By split, how many groups are counted again when those of all datasets are added up.

    Raises:
        DatasetInfoError: names the sources or groups, and the datasets by ``names``.
    """
    owners: dict[str, int] = {}
    splits: dict[str, tuple[str, int]] = {}
    # Keys, since one group may have many sources.
    twice: dict[str, None] = {}
    leaks: dict[str, None] = {}
    shared = Counter[str]()
    for index, row in ((i, row) for i, table in enumerate(tables) for row in table):
        owner = owners.setdefault(row.id, index)
        if owner != index:
            twice[f"{row.id!r} of {names[owner]} and {names[index]}"] = None
        if row.split is None:
            continue
        split, latest = splits.get(row.group, (row.split, index))
        splits[row.group] = split, index
        if split != row.split:
            sides = f"in {split} of {names[latest]} and in {row.split} of {names[index]}"
            leaks[f"{row.group!r} is {sides}"] = None
        elif latest != index:
            shared[split] += 1
    for found, rule, remedy in (
        (leaks, "a group must lie in one split, but", "with the other's splits"),
        (twice, "a source must occur once, but two datasets hold", "without these"),
    ):
        if found:
            raise DatasetInfoError(
                f"{rule} {list_some(found, 5, '; ')}. Build one of the datasets again, {remedy}. If "
                "these are different footage with equal names, `pipelines merge --prefix_sources on` tells "
                "them apart"
            )
    return shared

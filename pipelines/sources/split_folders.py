"""Folders that are splits: ``DIR/train/**`` beside ``DIR/test/**``, or ``DIR/CLASS/train/**``.

They are found in the paths of sources, so that they mean the same for every kind of footage and storage.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from pipelines.errors import UserError
from pipelines.options.dataset import SplitOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.plan.splits import join_names
from tfrecords_schema.split_names import standard_split

_MAX_LEVELS = 2
_ORDER = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitFolders:
    """The level of folders that are splits.

    Attributes:
        level: 0 for the folders in the input, 1 for those below them; None if folders are no splits.
        names: the folders that are splits.
        notes: lines for the user about how the folders were read.
    """

    level: int | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def divide(self, data_path: str) -> tuple[str | None, list[str]]:
        """Returns the split of a source, and the folders that it lies in without that of its split.

        Example: ``train/run/a.mp4`` gives ``("train", ["run"])`` at level 0.
        """
        folders = data_path.split("/")[:-1]
        if self.level is None:
            return None, folders
        return standard_split(folders.pop(self.level)), folders


def find_split_folders(
    data_paths: Collection[str], options: SplitOptions, *, as_folders: str
) -> SplitFolders:
    """Returns the folders of the sources at ``data_paths`` that are splits.

    Folders are splits if each folder of their level has the usual name of one.

    Args:
        data_paths: of all sources, relative to the input; those of empty folders end with a slash.
        options: ``--split_folders``.
        as_folders: phrase for such folders if they are not splits: ``classes``.

    Raises:
        UserError: if the folders can be read in two ways.
    """
    if options.split_folders == "off":
        return SplitFolders()
    notes = []
    for level in range(_MAX_LEVELS):
        named: dict[str, str] = {}
        others: dict[str, None] = {}
        for path in data_paths:
            parts = path.split("/", level + 1)
            name = parts[level] if len(parts) > level + 1 else ""
            if split := name and standard_split(name):
                named[name] = split
            elif len(others) < 3 and (name or not path.endswith("/")):
                others[name or path] = None
        if not named:
            continue
        ordered = tuple(sorted(named, key=lambda name: (_ORDER.index(named[name]), name)))
        listed = join_names(ordered)
        if level:
            listed, as_folders = f"{listed} below other folders", "ordinary folders"
        if not others:
            these = f"folder {listed} is" if len(named) == 1 else f"folders {listed} are"
            notes.append(
                f"the {these} taken as splits; --split_folders off takes them as {as_folders}"
            )
            for split in _ORDER:
                same = [name for name in ordered if named[name] == split]
                if len(same) > 1:
                    notes.append(f"{join_names(same)} are united as the split {split}")
            return SplitFolders(level, ordered, tuple(notes))
        if len(named) > 1:
            raise UserError(
                f"the folders {listed} are named like splits, but {', '.join(others)} beside them "
                f"{'is' if len(others) == 1 else 'are'} not, so they may be splits or {as_folders}. Move "
                "everything else out of their folder if they are splits, or give --split_folders off if not"
            )
        notes.append(
            f"the folder {listed} is not taken as a split, because others beside it are not named "
            f"like splits, for example {next(iter(others))}"
        )
    return SplitFolders(notes=tuple(notes))


def apply_split_folders(listing: Listing, options: SplitOptions) -> Listing:
    """Returns the listing with the splits of the folders that the files of its sources lie in.

    Raises:
        UserError: if the folders can be read in two ways, or the files of a drive lie in several splits.
    """
    paths = [path for source in listing.sources for path in _paths(source)]
    found = find_split_folders(paths, options, as_folders="ordinary folders")
    listing = replace(listing, notes=(*listing.notes, *found.notes))
    if found.level is None:
        return listing
    sources = []
    for source in listing.sources:
        splits = sorted({str(found.divide(path)[0]) for path in _paths(source)})
        if len(splits) > 1:
            raise UserError(
                f"a drive must lie in one split, but {source.id!r} has files in the folders of "
                f"{join_names(splits)}. Capture the folder in --join too, or give --split_folders off"
            )
        sources.append(replace(source, split=splits[0]))
    return replace(listing, sources=tuple(sources))


def _paths(source: Source) -> Collection[str]:
    return [part.data_path for part in source.parts] or [source.data_path]

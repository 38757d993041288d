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


@dataclass(frozen=True)
class SplitFolders:
    """The level of folders that are splits.

    Attributes:
        level: 0 for the folders in the input, 1 for those below them; None if folders are no splits.
        notes: lines for the user about how the folders were read.
    """

    level: int | None = None
    notes: tuple[str, ...] = ()

    def divide(self, path: str) -> tuple[str | None, list[str]]:
        """Returns the split of a path, and its folders without that of its split.

        Example: ``train/run/a.mp4`` gives ``("train", ["run"])`` at level 0.
        """
        folders = path.split("/")[:-1]
        if self.level is None or self.level >= len(folders):
            return None, folders
        return standard_split(folders.pop(self.level)), folders


def find_split_folders(
    paths: Collection[str], options: SplitOptions, *, as_folders: str
) -> SplitFolders:
    """Returns the folders that are splits: those of a level where each has the usual name of one.

    Args:
        paths: of all sources, relative to the input; a source that is a folder ends with a slash.
        options: ``--split_folders``.
        as_folders: phrase for such folders if they are not splits: ``classes``.

    Raises:
        UserError: if the folders can be read in two ways.
    """
    if options.split_folders == "off":
        return SplitFolders()
    notes = []
    for level, words in enumerate((as_folders, "ordinary folders")):
        named: dict[str, str] = {}
        others: dict[str, None] = {}
        for path in paths:
            # A source above this level stands for itself.
            name = (path.split("/", level + 1)[level:-1] or [path])[0]
            if split := standard_split(name):
                named[name] = split
            elif len(others) < 3:
                others[name] = None
        listed = ", ".join(n if n == named[n] else f"{n} ({named[n]})" for n in sorted(named))
        if level:
            listed += ", below other folders"
        if named and not others:
            notes.append(
                f"folders taken as splits: {listed}; --split_folders off takes them as {words}"
            )
            return SplitFolders(level, tuple(notes))
        if len(named) > 1:
            raise UserError(
                f"some folders are named like splits: {listed}; but others beside them are not: "
                f"{', '.join(others)}. So they may be splits or {words}. Move everything else out of their "
                "folder if they are splits, or give --split_folders off if not"
            )
        if named:
            notes.append(
                f"folder not taken as a split, because others beside it are not named like splits: {listed}"
            )
    return SplitFolders(notes=tuple(notes))


def apply_split_folders(listing: Listing, options: SplitOptions) -> Listing:
    """Returns the listing with the splits of the folders that its sources are or lie in.

    Raises:
        UserError: if the folders can be read in two ways, or the files of a drive lie in several splits.
    """
    paths = [path for source in listing.sources for path in _paths(source)]
    if paths == [f"{listing.name}/"]:
        return listing  # the input itself is the only source
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
    if source.kind == "frames":
        return [f"{source.data_path}/"]
    return [part.data_path for part in source.parts] or [source.data_path]

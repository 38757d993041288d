"""Classes, groups and splits of listed sources, whatever they are: the last step of every listing."""

from __future__ import annotations

import re
from dataclasses import replace

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions, SplitOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.plan.splits import join_names, place_unlisted, settle_splits
from pipelines.sources.classes import limit_classes, select_classes
from pipelines.sources.split_lists import apply_split_lists
from tfrecords_schema.split_names import standard_split


def group_and_split(listing: Listing, options: SplitOptions, label: LabelOptions) -> Listing:
    """Returns the sources of the wanted classes, with groups, and splits that no group's hash decides."""
    listing = apply_split_lists(listing, options.split_lists)
    listed = {source.split for source in listing.sources if source.split}
    if not listed and options.split_folders != "off":
        listing = replace(listing, notes=(*listing.notes, *_describe_name(listing.name, options)))
    listing = assign_groups(select_classes(listing, label), options)
    listing = place_unlisted(listing, listed, options)
    # Only sources that will be built count towards the limit.
    listing = limit_classes(listing, label.max_per_class, options.seed)
    return settle_splits(listing, listed, options)


def _describe_name(name: str, options: SplitOptions) -> list[str]:
    """Returns a note if the input is named like a split, and its sources go to several."""
    split, shares = standard_split(name), [split for split, share in options.splits if share]
    if split is None or len(shares) < 2:
        return []
    return [
        f"the input is named like a split ({name}), but its sources are divided among {join_names(shares)}. "
        f"--splits {split}=1 puts them all into {split}; to use folders of splits, give the folder above as "
        "--input"
    ]


def assign_groups(listing: Listing, options: SplitOptions) -> Listing:
    """Returns the listing with the groups of ``--group_by`` or of a manifest, within ``--group_scope``.

    Raises:
        UserError: if a source has no group or two, or if groups within a class would divide a file.
    """
    group_by, by_class = options.group_by, options.group_scope == "class"
    pattern = None if group_by is None else re.compile(group_by)
    grouped: list[Source] = []
    first_labels: dict[str, tuple[str, ...]] = {}
    classes_of: dict[str, set[str]] = {}  # of groups with several
    group_of_file: dict[str, str] = {}
    for source in listing.sources:
        group = None if source.group == source.data_path else source.group
        if pattern is not None:
            if group is not None:
                raise UserError(
                    f"--group_by and the manifest's group column both name the group of {source.id!r}. "
                    "Use one of them"
                )
            match = pattern.search(source.data_path)
            if not match or match[1] is None:
                raise UserError(
                    f"--group_by {group_by!r} must match the path of every source, but does not match "
                    f"{source.data_path!r}. Adapt the expression, or leave the source out"
                )
            group = match[1]
        if group is None:
            grouped.append(source)
            continue
        if first_labels.setdefault(group, source.labels) != source.labels:
            classes_of.setdefault(group, {*first_labels[group]}).update(source.labels)
        if by_class:
            if len(source.labels) != 1:
                raise UserError(
                    f"--group_scope class needs one class per source, but {source.id!r} has "
                    f"{len(source.labels)}. Take --group_scope dataset"
                )
            group = f"{source.labels[0]}/{group}"
            if group_of_file.setdefault(source.data_path, group) != group:
                raise UserError(
                    f"--group_scope class must not divide a file, but clips of {source.data_path!r} are in "
                    f"{group_of_file[source.data_path]!r} and {group!r}. Take --group_scope dataset"
                )
        grouped.append(source if source.group == group else replace(source, group=group))
    if by_class and not first_labels:
        raise UserError(
            "--group_scope class needs groups, of --group_by or a manifest's column group, but there are none"
        )
    notes = listing.notes
    if by_class or (classes_of and listing.label.task == "classification"):
        notes += (_describe_groups(len(first_labels), classes_of, by_class),)
    return replace(listing, sources=tuple(grouped), notes=notes)


def _describe_groups(names: int, classes_of: dict[str, set[str]], by_class: bool) -> str:
    """Returns a note about the number of groups and what else they could be: some have several classes."""
    divided = names + sum(len(classes) - 1 for classes in classes_of.values())
    if not classes_of:
        return f"{names} groups of sources, each within its class"
    example = next(iter(classes_of))
    shared = f"{len(classes_of)} of {names} names of groups occur in several classes, such as {example!r} in "
    shared += f"{len(classes_of[example])}"
    if by_class:
        return (
            f"{divided} groups of sources, each within its class (--group_scope class): {shared}. If these "
            "belong together, like the clips of one person, --group_scope dataset makes them "
            f"{names} groups"
        )
    return (
        f"{names} groups of sources, across classes (--group_scope dataset): {shared}. If these have nothing "
        f"in common, as in UCF101, --group_scope class makes them {divided} groups"
    )

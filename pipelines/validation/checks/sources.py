"""The checks of a sample of records against their sources; they need ``--sources``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.findings import Problem, check, error, note, warning


@check(
    reason="A reader or writer that takes BGR for RGB swaps red and blue. A model trained on such "
    "pictures expects colours that no camera delivers.",
    remedy="Build again with `pipelines --overwrite`. Check the program that wrote these records.",
)
def pictures_swapped_red_blue(dataset: DatasetView) -> Iterator[Problem]:
    """With --sources: no picture is its source's with red and blue swapped."""
    for where, (kind, message) in dataset.comparisons:
        if kind == "swapped":
            yield error(message, where)


@check(
    reason="If the pictures of a record are not what its source shows at these times, its label "
    "belongs to other pictures.",
    remedy="Build again with `pipelines --overwrite`, also if the sources were changed since the "
    "build.",
)
def pictures_unlike_source(dataset: DatasetView) -> Iterator[Problem]:
    """With --sources: each picture is what its source shows at its time."""
    for where, (kind, message) in dataset.comparisons:
        if kind == "unlike":
            yield error(message, where)
    total = len(dataset.comparisons)
    missing = Counter(reason for _, (kind, reason) in dataset.comparisons if kind == "missing")
    # If no record could be compared, the check that was asked for did not take place.
    problem = warning if missing.total() == total else note
    for reason, count in missing.items():
        yield problem(f"{count} of {total} records could not be compared: {reason}")

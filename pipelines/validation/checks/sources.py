"""The checks of a draw of records against their sources, where those are still there (``--sources``)."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.findings import Check, Problem, check, error, note, warning


@check(
    "pictures.swapped_red_blue",
    reason="A reader or writer that takes BGR for RGB swaps red and blue; a model trained on such "
    "pictures sees other colours than a camera will show it.",
    remedy="Build again with `pipelines --overwrite`; look at what wrote these records.",
)
def swapped_red_blue(dataset: DatasetView) -> Iterator[Problem]:
    """With --sources: no picture is its source's with red and blue exchanged."""
    for where, compared in dataset.compared:
        if compared.swapped is not None:
            yield error(f"frame {compared.swapped} has red and blue of its source swapped", where)


@check(
    "pictures.unlike_source",
    reason="A record whose pictures are not what its source shows at its times has somebody else's "
    "label, whatever else is right about it.",
    remedy="Build again with `pipelines --overwrite`; if the sources were changed since, that "
    "is what makes the dataset theirs again.",
)
def unlike_source(dataset: DatasetView) -> Iterator[Problem]:
    """With --sources: each picture is what its source shows at its time."""
    absent: dict[str, int] = {}
    for where, compared in dataset.compared:
        if compared.unlike is not None:
            frame, said = compared.unlike
            yield error(f"frame {frame} {said}" if compared.frames else said, where)
        if compared.absent:
            absent[compared.absent] = absent.get(compared.absent, 0) + 1
    total = len(dataset.compared)
    # When nothing could be compared, the question was not answered.
    problem = warning if sum(absent.values()) == total else note
    for reason, count in absent.items():
        yield problem(f"{count} of {total} records could not be compared: {reason}")


SOURCE_CHECKS: tuple[Check[DatasetView], ...] = (swapped_red_blue, unlike_source)

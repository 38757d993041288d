"""Renders the report of a validation: one HTML file, verdict first, that opens offline.

The boxes that hide levels, families of checks and splits work by CSS alone; see ``page.html``.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import replace

from pipelines.datasets.show import format_value
from pipelines.validation.checks.catalogue import ALL_CHECKS
from pipelines.validation.findings import LEVELS
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation
from pipelines.validation.report import contents
from pipelines.validation.report.filmstrips import Filmstrip, find_leak_pairs, make_strip_groups
from tfrecords_schema.codec import parse_json, to_json
from tfrecords_schema.report.pages import render_page
from tfrecords_schema.tables import format_bytes

_MAX_FAILURES = 50
_MAX_BOXES = 12
"""Boxes in a group; a group of more values has none."""
_MAX_CLASSES = 200
"""Classes that can be chosen, of those that are shown."""
_MAX_FILM_BYTES = 6 << 20


def render_report(validation: Validation, folder: DatasetFolder) -> str:
    """Returns the page; records shown as filmstrips are read from ``folder`` again."""
    result, groups = validation.result, list(validation.finding_groups())
    failures, failure_count = folder.failures(_MAX_FAILURES)
    leak_pairs, strip_groups = (
        find_leak_pairs(validation, folder),
        make_strip_groups(validation, folder),
    )
    shown = [own for _, own in (*leak_pairs[0], *strip_groups)]
    _limit_films(shown)
    strips = list(itertools.chain(*shown))
    classes = sorted({name for strip in strips for name in strip.classes})
    return render_page(
        __package__,
        "page.html",
        title=f"{validation.info.name}: validation",
        validation=validation,
        size=format_bytes(result.bytes),
        groups=groups,
        # Names may come from the dataset, so that CSS knows them by number.
        level_names=[level for level in LEVELS if result.count(level)],
        family_names=list(dict.fromkeys(c.family for c in ALL_CHECKS if c.name in result.counts)),
        split_names=list(validation.info.splits),
        class_names=classes[:_MAX_CLASSES],
        max_boxes=_MAX_BOXES,
        passed=[c for c in ALL_CHECKS if c.name not in {*result.counts, *validation.not_run}],
        not_run=[
            (c, validation.not_run[c.name]) for c in ALL_CHECKS if c.name in validation.not_run
        ],
        splits=contents.splits(validation),
        classes=contents.classes(validation),
        targets=contents.targets(validation),
        signals=contents.signals(validation),
        shard_sizes=contents.shard_sizes(validation),
        steps=contents.steps(validation),
        leak_pairs=leak_pairs,
        strip_groups=strip_groups,
        provenance=_provenance(validation),
        failures=[_describe_failure(line) for line in failures],
        failure_count=failure_count,
    )


def _limit_films(shown: Sequence[list[Filmstrip]]) -> None:
    """Removes the films of the last strips, so that a browser can still hold the page."""
    rest = _MAX_FILM_BYTES
    for own in shown:
        for index, strip in enumerate(own):
            rest -= len(strip.film.jpeg) if strip.film else 0
            if rest < 0:
                own[index] = replace(strip, film=None)


def _provenance(validation: Validation) -> dict[str, list[tuple[str, str]]]:
    """Names and values under headings; the values under an empty heading are shown at once."""
    info, options = validation.info, validation.options
    validated = ["pipelines", "validate", "--tfrecords", options.tfrecords]
    validated += ["--against", options.against] if options.against else []
    return {
        "": [
            *([("built by", "another program")] if info.adopted else []),
            ("validated by", shlex.join([*validated, "--fail_on", options.fail_on])),
            ("fingerprint", info.fingerprint or "none"),
            *((f"version of {name}", version) for name, version in info.versions.items()),
        ],
        "Options of the build": [(name, format_value(v)) for name, v in info.options.items()],
        "Counts of the build": [(name, f"{count:,}") for name, count in info.counts.items()],
        "Spec of the records": [(name, format_value(v)) for name, v in to_json(info.spec).items()],
    }


def _describe_failure(line: str) -> str:
    try:
        fields = parse_json(line)
        return f"{fields['source']}: {fields['stage']}: {fields['reason']}"
    except (ValueError, KeyError, TypeError):
        return line  # written by another program

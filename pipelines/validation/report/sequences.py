"""The report's filmstrips: records with findings, pairs that leak, extreme ones, and some drawn at random."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.validation.findings import Finding, Where
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation
from pipelines.validation.report.filmstrips import Filmstrip, StripFrame, make_filmstrips
from pipelines.validation.report.findings import filters
from pipelines.validation.report.markup import escape, section
from pipelines.validation.result import Sample
from pipelines.validation.views import expectation

_MOST_SUSPECTS = 12
_MOST_PAIRS = 8


def sequences(validation: Validation, folder: DatasetFolder) -> str:
    """Strips of frames, with boxes that hide splits."""
    if validation.info.spec.image is None:
        return ""
    splits = list(validation.info.splits)
    samples = validation.result.samples
    groups = [
        ("With findings", _suspects(validation)),
        ("Extreme", [sample for sample in samples if sample.why]),
        (
            f"Drawn at random (seed {validation.options.seed})",
            [sample for sample in samples if not sample.why],
        ),
    ]
    parts = [_pairs_side_by_side(validation, folder)]
    for title, chosen in groups:
        figures = _figures(validation, folder, chosen)
        if figures:
            parts.append(f"<h3>{escape(title)}</h3>\n{figures}")
    body = "\n".join(part for part in parts if part)
    return (
        section("sequences", "Sequences", filters("Splits", "split", splits) + body) if body else ""
    )


def _pairs_side_by_side(validation: Validation, folder: DatasetFolder) -> str:
    pairs = [
        finding
        for finding in validation.result.findings
        if finding.check.startswith("leaks.") and finding.other is not None
    ]
    parts = []
    for finding in pairs[:_MOST_PAIRS]:
        samples = [_sample(validation, where) for where in (finding.where, finding.other) if where]
        figures = _figures(validation, folder, [sample for sample in samples if sample])
        parts.append(f'<div class="pair"><p>{escape(finding.message)}</p>{figures}</div>')
    if not parts:
        return ""
    title = "<h3>In two splits</h3>"
    more = len(pairs) - _MOST_PAIRS
    tail = f'<p class="dim">and {more:,} more, above</p>' if more > 0 else ""
    return f"{title}\n{''.join(parts)}{tail}"


def _figures(validation: Validation, folder: DatasetFolder, samples: Iterable[Sample]) -> str:
    expected = expectation(validation.info, validation.options.thresholds)
    splits = list(validation.info.splits)
    return "\n".join(
        _figure(strip, splits) for strip in make_filmstrips(folder, expected, list(samples))
    )


def _suspects(validation: Validation) -> list[Sample]:
    """The first records with findings, at most two a check."""
    taken: dict[tuple[str, int], Sample] = {}
    by_check: dict[str, int] = {}
    for finding in validation.result.findings:
        sample = _sample(validation, finding.where, finding)
        if sample is None or by_check.get(finding.check, 0) > 1 or finding.other is not None:
            continue
        by_check[finding.check] = by_check.get(finding.check, 0) + 1
        taken.setdefault((sample.shard, sample.offset), sample)
    return list(taken.values())[:_MOST_SUSPECTS]


def _sample(validation: Validation, where: Where, finding: Finding | None = None) -> Sample | None:
    for name, split in validation.info.splits.items():
        if where.offset is not None and any(shard.file == where.shard for shard in split.shards):
            why = f"{finding.check}: {finding.message}" if finding else ""
            return Sample(
                split=name, shard=where.shard, offset=where.offset, why=why, frame=where.frame
            )
    return None


def _figure(strip: Filmstrip, splits: list[str]) -> str:
    sample = strip.sample
    frames = "".join(_frame(frame, strip) for frame in strip.frames)
    place = f"{sample.shard}, byte {sample.offset}"
    why = f'<br><span class="why">{escape(sample.why)}</span>' if sample.why else ""
    name = f"Frames of {strip.record}"
    return (
        f'<figure data-split="{splits.index(sample.split)}"><figcaption>'
        f"<strong>{escape(strip.label or 'no label')}</strong> "
        f"<small>{escape(sample.split)}: <code>{escape(strip.record)}</code>, "
        f'{escape(place)}</small>{why}</figcaption><ul class="strip" role="list" tabindex="0" '
        f'aria-label="{escape(name)}">{frames}</ul></figure>'
    )


def _frame(frame: StripFrame, strip: Filmstrip) -> str:
    time = "no time" if frame.seconds is None else f"{frame.seconds:.2f} s"
    said = f"Frame {frame.index}, {time}{', padding' if frame.padding else ''}"
    label = frame.label or strip.label
    if frame.jpeg is None:
        picture = f'<span class="lost">frame {frame.index}<br>cannot be shown</span>'
    else:
        alt = escape(f"{said}, {label}")
        picture = f'<img src="data:image/jpeg;base64,{frame.jpeg}" alt="{alt}" loading="lazy">'
    kinds = [
        kind
        for kind, is_so in (
            ("padding", frame.padding),
            ("meant", frame.index == strip.sample.frame),
        )
        if is_so
    ]
    style = f' class="{" ".join(kinds)}"' if kinds else ""
    below = f"<br>{escape(frame.label)}" if frame.label else ""
    return f"<li{style}>{picture}{time}{' (padding)' if frame.padding else ''}{below}</li>"

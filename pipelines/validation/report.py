"""The report: one HTML file that opens offline, verdict first.

It loads nothing and runs nothing, which its content policy also forbids. Labels, ids and paths come from
footage that anybody may have named, so every text passes `escape`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.summary import format_bytes
from pipelines.validation.checks import ALL_CHECKS
from pipelines.validation.columns import target_column
from pipelines.validation.examine import take_census
from pipelines.validation.filmstrips import Filmstrip, StripFrame, make_filmstrips
from pipelines.validation.findings import LEVELS, Check, Level
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation, plural, printable
from pipelines.validation.report_style import STYLE
from pipelines.validation.result import Sample
from pipelines.validation.views import expectation

_MOST_CLASSES = 500
_MOST_FAILURES = 50
_MOST_SUSPECTS = 6
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_report(validation: Validation, folder: DatasetFolder) -> str:
    """The whole page."""
    title = escape(f"{validation.info.name}: validation")
    sections = (
        _findings(validation),
        _contents(validation),
        _classes(validation),
        _targets(validation),
        _strips(validation, folder),
        _passed(validation),
        _provenance(validation, folder),
    )
    body = "\n".join(section for section in sections if section)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(validation.info.name)}</h1>
{_verdict(validation)}
</header>
<main>
{body}
</main>
</body>
</html>
"""


def escape(text: str) -> str:
    """``text`` for HTML; what cannot be shown, and what would turn the direction of text, as escapes."""
    return html.escape(printable(text))


def _verdict(validation: Validation) -> str:
    result = validation.result
    word, style = ("Failed", "failed") if validation.failed else ("Passed", "passed")
    counts = ", ".join(plural(result.count(level), level) for level in LEVELS)
    shards = sum(split.shards for split in result.splits.values())
    return (
        f'<div class="verdict {style}" role="status"><p><strong>{word}</strong>: {counts}</p>'
        f'<p class="dim">{plural(result.records, "record")} in {plural(shards, "shard")} '
        f"({escape(format_bytes(result.bytes))}) examined in {validation.seconds:.1f} s</p></div>"
    )


def _findings(validation: Validation) -> str:
    result = validation.result
    if not result.findings:
        return _section("findings", "Findings", "<p>No check found anything.</p>")
    parts = [
        _check_findings(validation, check, level)
        for level in LEVELS
        for check in ALL_CHECKS
        if result.count(level, check.name)
    ]
    return _section("findings", "Findings", "\n".join(parts))


def _check_findings(validation: Validation, check: Check[Any], level: Level) -> str:
    result = validation.result
    count = result.count(level, check.name)
    kept = [f for f in result.findings if f.check == check.name and f.level == level]
    items = "\n".join(
        f"<li>{escape(finding.message)}"
        + (
            f'<br><code class="where">{escape(str(finding.where))}</code>'
            if str(finding.where)
            else ""
        )
        + "</li>"
        for finding in kept
    )
    more = f"<p>and {count - len(kept):,} more</p>" if count > len(kept) else ""
    is_open = "" if level == "note" else " open"
    return (
        f'<details{is_open}><summary><span class="level {level}">{level}</span> '
        f"<strong>{escape(check.name)}</strong>: {plural(count, 'finding')}</summary>\n"
        f"<p>{escape(check.reason)}</p><p><strong>What to do:</strong> {escape(check.remedy)}</p>\n"
        f"<ol>\n{items}\n</ol>{more}</details>"
    )


def _contents(validation: Validation) -> str:
    rows = [
        (
            name,
            f"{facts.records:,}",
            f"{facts.frames:,}",
            _duration(facts.seconds),
            f"{facts.shards:,}",
            format_bytes(facts.bytes),
        )
        for name, facts in validation.result.splits.items()
    ]
    header = ("split", "records", "frames", "footage", "shards", "bytes")
    body = "".join(f"<tr>{_row('td', row)}</tr>" for row in rows)
    return _section("contents", "Contents", _table("Splits", _row("th", header), body))


def _classes(validation: Validation) -> str:
    names = validation.info.spec.label.class_names
    if not names:
        return ""
    splits = validation.result.splits
    totals = [
        sum(split.labels[place] for split in splits.values() if split.labels)
        for place in range(len(names))
    ]
    most = max([*totals, 1])
    order = sorted(range(len(names)), key=lambda place: (-totals[place], place))[:_MOST_CLASSES]
    rows = "".join(
        f"<tr><td>{escape(names[place])}</td>"
        + "".join(f"<td>{s.labels[place] if s.labels else 0:,}</td>" for s in splits.values())
        + f'<td class="chart">{_bar(totals[place] / most)} {totals[place]:,}</td></tr>'
        for place in order
    )
    what = "Frames" if validation.info.spec.label.per_frame else "Records"
    heading = _row("th", ("class", *splits, "all"))
    more = len(names) - len(order)
    tail = f'<p class="dim">and {plural(more, "smaller class")}</p>' if more else ""
    return _section(
        "classes",
        f"{what} by class",
        _table("Classes", heading, rows) + tail,
    )


def _bar(fraction: float) -> str:
    # Room is left for the number behind it.
    return f'<span class="bar" style="width:calc((100% - 5rem) * {fraction:.4f})"></span>'


def _targets(validation: Validation) -> str:
    label, splits = validation.info.spec.label, validation.result.splits
    ranges = take_census(validation.info, seed=0).ranges
    units = label.target_units or ("",) * len(label.target_names)
    parts: list[str] = []
    for name, unit in zip(label.target_names, units, strict=True):
        column = target_column(name)
        figures = [
            _histogram(split, facts.histograms[column], ranges[column], unit, facts.columns[column])
            for split, facts in splits.items()
            if column in facts.histograms
        ]
        if figures:
            shown = f"{name} ({unit})" if unit else name
            parts.append(f'<h3>{escape(shown)}</h3><div class="grid">{"".join(figures)}</div>')
    return _section("targets", "Targets", "\n".join(parts)) if parts else ""


def _histogram(
    split: str, bins: Sequence[int], limits: tuple[float, float], unit: str, column: Any
) -> str:
    most = max([*bins, 1])
    bars = "".join(
        f'<rect x="{place * 10 + 0.5}" y="{80 - 78 * count / most:.1f}" width="9" '
        f'height="{78 * count / most:.1f}"><title>{count:,}</title></rect>'
        for place, count in enumerate(bins)
    )
    said = (
        f"{column.count:,} values, mean {column.mean:.4g}, std {column.std:.4g}, "
        f"{column.min:.4g} to {column.max:.4g} {unit}".rstrip()
    )
    return (
        f'<figure><svg viewBox="0 0 {len(bins) * 10} 82" role="img" '
        f'aria-label="{escape(f"Histogram of {split}: {said}")}">{bars}</svg>'
        f"<figcaption><strong>{escape(split)}</strong> <small>from {limits[0]:.4g} to {limits[1]:.4g}; "
        f"{escape(said)}</small></figcaption></figure>"
    )


def _strips(validation: Validation, folder: DatasetFolder) -> str:
    if validation.info.spec.image is None:
        return ""
    expected = expectation(validation.info, validation.options.thresholds)
    suspects = _suspects(validation)
    parts = []
    for title, samples in (
        ("With findings", suspects),
        (f"Drawn at random (seed {validation.options.seed})", validation.result.samples),
    ):
        figures = "\n".join(map(_figure, make_filmstrips(folder, expected, samples)))
        if figures:
            parts.append(f"<h3>{escape(title)}</h3>\n{figures}")
    return _section("sequences", "Sequences", "\n".join(parts)) if parts else ""


def _suspects(validation: Validation) -> list[Sample]:
    """The first records with findings, at most two a check."""
    split_of = {
        shard.file: name for name, split in validation.info.splits.items() for shard in split.shards
    }
    taken: dict[tuple[str, int], Sample] = {}
    by_check: dict[str, int] = {}
    for finding in validation.result.findings:
        where = finding.where
        if (
            where.offset is None
            or where.shard not in split_of
            or by_check.get(finding.check, 0) > 1
        ):
            continue
        by_check[finding.check] = by_check.get(finding.check, 0) + 1
        taken[where.shard, where.offset] = Sample(
            split=split_of[where.shard], shard=where.shard, offset=where.offset
        )
    return list(taken.values())[:_MOST_SUSPECTS]


def _figure(strip: Filmstrip) -> str:
    frames = "".join(_frame(frame, strip) for frame in strip.frames)
    place = f"{strip.sample.shard}, byte {strip.sample.offset}"
    return (
        f"<figure><figcaption><strong>{escape(strip.label or 'no label')}</strong> "
        f"<small>{escape(strip.sample.split)}: <code>{escape(strip.record)}</code>, "
        f'{escape(place)}</small></figcaption><ul class="strip" tabindex="0" '
        f'aria-label="Frames">{frames}</ul></figure>'
    )


def _frame(frame: StripFrame, strip: Filmstrip) -> str:
    time = "no time" if frame.seconds is None else f"{frame.seconds:.2f} s"
    said = f"Frame {frame.index}, {time}{', padding' if frame.padding else ''}"
    if frame.jpeg is None:
        picture = f'<span class="lost">frame {frame.index}<br>cannot be shown</span>'
    else:
        alt = escape(f"{said}, {strip.label}")
        picture = f'<img src="data:image/jpeg;base64,{frame.jpeg}" alt="{alt}" loading="lazy">'
    style = ' class="padding"' if frame.padding else ""
    return f"<li{style}>{picture}{time}{' (padding)' if frame.padding else ''}</li>"


def _passed(validation: Validation) -> str:
    counts = validation.result.counts
    items = "".join(
        f"<li><strong>{escape(check.name)}</strong>: {escape(check.summary)}</li>"
        for check in ALL_CHECKS
        if check.name not in counts
    )
    return _section("passed", "Checks that found nothing", f"<ul>{items}</ul>") if items else ""


def _provenance(validation: Validation, folder: DatasetFolder) -> str:
    info = validation.info
    built = [
        ("folder", validation.options.tfrecords),
        ("fails on", validation.options.fail_on),
        ("fingerprint", info.fingerprint or "none"),
        *((f"version of {name}", version) for name, version in info.versions.items()),
    ]
    parts = [
        _pairs(built),
        _fold("Options it was built with", _pairs((k, _plain(v)) for k, v in info.options.items())),
        _fold("What became of the footage", _pairs((k, f"{v:,}") for k, v in info.counts.items())),
        _fold(
            "What a record holds", _pairs((k, _plain(v)) for k, v in info.spec.to_json().items())
        ),
    ]
    lines, count = folder.failures(_MOST_FAILURES)
    if count:
        items = "".join(f"<li>{escape(_failure(line))}</li>" for line in lines)
        more = (
            f"<p>and {count - len(lines):,} more in failures.jsonl</p>"
            if count > len(lines)
            else ""
        )
        parts.append(
            f"<details open><summary>{plural(count, 'source')} failed or ended early</summary>"
            f"<ul>{items}</ul>{more}</details>"
        )
    return _section("provenance", "Provenance", "\n".join(parts))


def _failure(line: str) -> str:
    try:
        fields = json.loads(line)
        return f"{fields['source']}: {fields['stage']}: {fields['reason']}"
    except (ValueError, KeyError, TypeError):
        return line  # not ours; shown as it is


def _section(name: str, title: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(title)}</h2>\n{body}\n</section>'


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    items = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in pairs
    )
    return f"<dl>{items}</dl>" if items else ""


def _table(name: str, heading: str, rows: str) -> str:
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}"><table><thead>'
        f"<tr>{heading}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(tag: str, cells: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"

"""The report's counts and plots: splits, classes, targets and signals, shards, times."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.build.summary import format_bytes
from pipelines.validation.dataset_view import column_names
from pipelines.validation.examine import take_census
from pipelines.validation.outcome import Validation, plural
from pipelines.validation.report.markup import duration, escape, fold, row, section, table
from pipelines.validation.result import Column
from pipelines.validation.tallies import STEP_RANGE
from pipelines.validation.views import target_column
from tfrecords_schema.info import ShardInfo

_MOST_CLASSES = 500
_MOST_BARS = 300


def contents(validation: Validation) -> str:
    """Records, frames and bytes of each split."""
    rows = [
        (
            name,
            f"{facts.records:,}",
            f"{facts.frames:,}",
            duration(facts.seconds),
            f"{facts.shards:,}",
            format_bytes(facts.bytes),
        )
        for name, facts in validation.result.splits.items()
    ]
    header = ("split", "records", "frames", "footage", "shards", "bytes")
    body = "".join(f"<tr>{row('td', own)}</tr>" for own in rows)
    return section("contents", "Contents", table("Splits", row("th", header), body))


def classes(validation: Validation) -> str:
    """Records, or frames, of each class in each split."""
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
    heading = row("th", ("class", *splits, "all"))
    more = len(names) - len(order)
    tail = (
        f'<p class="dim">and {more:,} smaller {"class" if more == 1 else "classes"}</p>'
        if more
        else ""
    )
    return section("classes", f"{what} by class", table("Classes", heading, rows) + tail)


def targets(validation: Validation) -> str:
    """A histogram of each regression target in each split."""
    splits, ranges = validation.result.splits, take_census(validation.info, seed=0).ranges
    parts: list[str] = []
    for name, unit in column_names(validation.info):
        column = target_column(name)
        figures = [
            histogram(
                split,
                facts.histograms[column],
                f"from {ranges[column][0]:.4g} to {ranges[column][1]:.4g}",
                _say_column(facts.columns[column], unit),
            )
            for split, facts in splits.items()
            if column in facts.histograms
        ]
        if figures:
            shown = f"{name} ({unit})" if unit else name
            parts.append(f'<h3>{escape(shown)}</h3><div class="grid">{"".join(figures)}</div>')
    return section("targets", "Targets", "\n".join(parts)) if parts else ""


def signals(validation: Validation) -> str:
    """Moments of each component of each input signal."""
    units = {signal.name: signal.unit for signal in validation.info.spec.signals}
    rows = []
    for split, facts in validation.result.splits.items():
        for name, column in facts.columns.items():
            if name.startswith("signal "):
                signal = name.removeprefix("signal ")
                unit = units.get(signal.rpartition("[")[0], "")
                numbers = (column.mean, column.std, column.min, column.max)
                rows.append((signal, split, *(f"{v:.4g}" for v in numbers), unit))
    if not rows:
        return ""
    header = row("th", ("signal", "split", "mean", "std", "least", "most", "unit"))
    body = "".join(f"<tr>{row('td', own)}</tr>" for own in sorted(rows)[:_MOST_CLASSES])
    return section("signals", "Signals", table("Signals", header, body))


def shards(validation: Validation) -> str:
    """A bar for each shard, and the steps between timestamps, of each split."""
    bars = [
        _shard_bars(name, split.shards)
        for name, split in validation.info.splits.items()
        if split.shards
    ]
    low, high = STEP_RANGE
    steps = [
        histogram(
            split,
            facts.steps,
            f"from {low:g} to {high:g} frame periods and more",
            f"{sum(facts.steps):,} steps",
        )
        for split, facts in validation.result.splits.items()
        if sum(facts.steps)
    ]
    parts = f'<h3>Bytes by shard</h3><div class="grid">{"".join(bars)}</div>' if bars else ""
    if steps:
        parts += f'<h3>Steps between timestamps</h3><div class="grid">{"".join(steps)}</div>'
    return section("shards", "Shards and times", parts) if parts else ""


def histogram(split: str, bins: Sequence[int], limits: str, said: str) -> str:
    """A figure with a text for those who do not see it."""
    most = max([*bins, 1])
    return (
        f"<figure>{_chart(bins, most, f'Histogram of {split}: {said}')}"
        f"<figcaption><strong>{escape(split)}</strong> <small>{escape(limits)}; {escape(said)}</small>"
        f"</figcaption>{_numbers(bins)}</figure>"
    )


def _say_column(column: Column, unit: str) -> str:
    return (
        f"{column.count:,} values, mean {column.mean:.4g}, std {column.std:.4g}, "
        f"{column.min:.4g} to {column.max:.4g} {unit}"
    ).rstrip()


def _chart(bins: Sequence[int], most: int, label: str) -> str:
    bars = "".join(
        f'<rect x="{place * 10 + 0.5}" y="{80 - 78 * count / most:.1f}" width="9" '
        f'height="{78 * count / most:.1f}"><title>{count:,}</title></rect>'
        for place, count in enumerate(bins)
    )
    # As wide however few bars there are.
    width = max(len(bins), 12) * 10
    return f'<svg viewBox="0 0 {width} 82" role="img" aria-label="{escape(label)}">{bars}</svg>'


def _numbers(bins: Sequence[int]) -> str:
    return fold("Numbers", f"<p>{', '.join(f'{count:,}' for count in bins)}</p>")


def _shard_bars(name: str, own: Sequence[ShardInfo]) -> str:
    sizes = [shard.bytes for shard in own]
    said = (
        f"{plural(len(own), 'shard')} of {format_bytes(min(sizes))} to {format_bytes(max(sizes))}, "
        f"{min(s.records for s in own):,} to {max(s.records for s in own):,} records each"
    )
    drawn = sizes
    if len(sizes) > _MOST_BARS:
        # Every so many of them, from the smallest to the largest.
        ordered = sorted(sizes)
        drawn = [ordered[place * len(sizes) // _MOST_BARS] for place in range(_MOST_BARS)]
        said += f"; {_MOST_BARS} of them, in order of size"
    return (
        f"<figure>{_chart(drawn, max([*drawn, 1]), f'Bytes of the shards of {name}: {said}')}"
        f"<figcaption><strong>{escape(name)}</strong> <small>{escape(said)}</small></figcaption></figure>"
    )


def _bar(fraction: float) -> str:
    # Room is left for the number behind it.
    return f'<span class="bar" style="width:calc((100% - 5rem) * {fraction:.4f})"></span>'

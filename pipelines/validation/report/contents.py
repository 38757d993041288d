"""Counts and histograms of a dataset, as rows and bars for the report's template."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.validation.dataset_view import target_units
from pipelines.validation.outcome import Validation
from pipelines.validation.tallies import STEP_RANGE
from pipelines.validation.views import Expectation, target_column
from tfrecords_schema.report.charts import Chart, make_histogram
from tfrecords_schema.report.pages import Cell, Row, Table, describe_rows, format_duration, plural
from tfrecords_schema.tables import format_bytes

_MAX_ROWS = 500
_MAX_BARS = 300


@dataclass(frozen=True)
class BarChart:
    """A bar chart of one split.

    Attributes:
        split: its name.
        chart: what is drawn.
        summary: of the values, in words.
        has_numbers: True if the page lists the bars in words too.
    """

    split: str
    chart: Chart
    summary: str
    has_numbers: bool = True


def splits(validation: Validation) -> Table:
    """Returns records, frames and bytes of each split."""
    rows = [
        (
            name,
            f"{split.records:,}",
            f"{split.frames:,}",
            format_duration(split.seconds),
            f"{split.shards:,}",
            format_bytes(split.bytes),
        )
        for name, split in validation.result.splits.items()
    ]
    heading = ("split", "records", "frames", "footage", "shards", "bytes")
    return Table("Records, frames and bytes by split", heading, rows)


def classes(validation: Validation) -> Table:
    """Returns records (frames, for labels by frame) of each class in each split, most frequent first."""
    names, facts = validation.info.spec.label.class_names, validation.result.splits
    counts = [split.labels or (0,) * len(names) for split in facts.values()]
    totals = [sum(split[index] for split in counts) for index in range(len(names))]
    largest = max([*totals, 1])
    order = sorted(range(len(names)), key=lambda index: (-totals[index], index))
    rows: list[Row] = [
        (
            names[index],
            *(f"{split[index]:,}" for split in counts),
            Cell(f"{totals[index]:,}", bar=totals[index] / largest),
        )
        for index in order[:_MAX_ROWS]
    ]
    what = "Frames" if validation.info.spec.label.per_frame else "Records"
    rest = describe_rows(len(names), len(rows), "class")
    caption = f"{what} by class, most frequent first {rest}"
    return Table(caption, ("class", *facts, "all"), rows)


def targets(validation: Validation) -> dict[str, list[BarChart]]:
    """Returns, by target with its unit, a histogram of each split that has values."""
    ranges = Expectation(info=validation.info).ranges
    charts: dict[str, list[BarChart]] = {}
    for name, unit in target_units(validation.info):
        column = target_column(name)
        for split, facts in validation.result.splits.items():
            own = facts.columns.get(column)
            if own is None or column not in facts.histograms:
                continue
            low, high = ranges[column]
            summary = (
                f"{own.count:,} values, mean {own.mean:.4g}, std {own.std:.4g}, "
                f"{own.min:.4g} to {own.max:.4g} {unit}"
            )
            title = f"{name} ({unit})" if unit else name
            own_chart = make_histogram(
                facts.histograms[column],
                low,
                high,
                x_name=title,
                y_name="values",
                summary=f"Histogram of {split}: {summary}".rstrip(),
            )
            charts.setdefault(title, []).append(BarChart(split, own_chart, summary.rstrip()))
    return charts


def signals(validation: Validation) -> Table:
    """Returns the moments of each component of each input signal."""
    units = {signal.name: signal.unit for signal in validation.info.spec.signals}
    rows: list[tuple[str, ...]] = []
    for split, facts in validation.result.splits.items():
        for name, column in facts.columns.items():
            if name.startswith("signal "):
                signal = name.removeprefix("signal ")
                numbers = (column.mean, column.std, column.min, column.max)
                unit = units.get(signal.rpartition("[")[0], "")
                rows.append((signal, split, *(f"{value:.4g}" for value in numbers), unit))
    heading = ("signal", "split", "mean", "std", "min", "max", "unit")
    return Table("Moments of each component", heading, sorted(rows)[:_MAX_ROWS])


def shard_sizes(validation: Validation) -> list[BarChart]:
    """Returns the bytes of the shards of each split."""
    charts = []
    for split, info in validation.info.splits.items():
        if not info.shards:
            continue
        sizes = [shard.bytes for shard in info.shards]
        records = [shard.records for shard in info.shards]
        summary = (
            f"{plural(len(sizes), 'shard')} of {format_bytes(min(sizes))} to {format_bytes(max(sizes))}, "
            f"{min(records):,} to {max(records):,} records each"
        )
        x_name = "shards"
        if len(sizes) > _MAX_BARS:
            ordered = sorted(sizes)
            sizes = [ordered[index * len(sizes) // _MAX_BARS] for index in range(_MAX_BARS)]
            x_name = f"{_MAX_BARS} of the shards, in order of size"
        chart = make_histogram(
            sizes,
            0,
            len(sizes),
            x_name=x_name,
            y_name="bytes",
            summary=f"Bytes of the shards of {split}: {summary}",
        )
        charts.append(BarChart(split, chart, summary, has_numbers=False))
    return charts


def steps(validation: Validation) -> list[BarChart]:
    """Returns a histogram of the steps between timestamps of each split, in frame periods."""
    charts = []
    for split, facts in validation.result.splits.items():
        if sum(facts.steps):
            summary = f"{sum(facts.steps):,} steps"
            low, high = STEP_RANGE
            chart = make_histogram(
                facts.steps,
                low,
                high,
                x_name=f"frame periods ({high:g}: and more)",
                y_name="steps",
                summary=f"Histogram of {split}: {summary}",
            )
            charts.append(BarChart(split, chart, summary))
    return charts

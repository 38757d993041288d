"""Plots learning curves."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfrecords_schema.storage import replacing
from trainer.config.run_folder import read_history


def plot_curves(history: Path, target: Path, *, baselines: dict[str, float]) -> None:
    """Plots each column of ``history.csv`` as a PNG, train and validation together.

    ``baselines`` holds values by metric, each drawn as a dashed line.
    """
    rows = read_history(history)
    columns = list(rows[0]) if rows else []
    metrics = [
        name for name in columns if name not in ("epoch", "seconds") and not name.startswith("val_")
    ]
    # Not pyplot, which would choose a display, and keep every figure.
    figure = Figure(figsize=(5.5 * max(len(metrics), 1), 4), layout="constrained")
    epochs = [int(row["epoch"]) for row in rows]
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), i + 1)
        for column, label in ((metric, "train"), (f"val_{metric}", "validation")):
            if column in columns:
                values = [float(row[column]) for row in rows]
                axes.plot(epochs, values, marker="o", markersize=3, label=label)
        if metric in baselines:
            axes.axhline(baselines[metric], color="gray", linestyle="--", label="baseline")
        axes.set(xlabel="epoch", title=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(target, suffix=".png") as partial:
        figure.savefig(partial, dpi=120)

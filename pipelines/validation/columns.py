"""The numbers of a record, by name: targets and the components of signals."""

from __future__ import annotations

from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys


def value_columns(record: RecordView) -> dict[str, list[float]]:
    """By name (``target speed``, ``signal IMU[2]``), the float values of a record: one, or one a frame."""
    columns: dict[str, list[float]] = {}
    names = record.spec.label.target_names
    values = record.context.get(keys.LABEL_VALUE)
    rows = [values] if values else record.steps.get(keys.FRAME_LABEL_VALUE, [])
    for place, name in enumerate(names):
        if rows:
            columns[target_column(name)] = [row[place] for row in rows]
    for signal in record.spec.signals:
        rows = record.steps.get(keys.signal_floats_key(signal.name), [])
        for place in range(signal.size if rows else 0):
            columns[signal_column(signal.name, place)] = [row[place] for row in rows]
    return columns


def target_column(name: str) -> str:
    """What `value_columns` calls a regression target."""
    return f"target {name}"


def signal_column(name: str, component: int) -> str:
    """What `value_columns` calls a component of an input signal."""
    return f"signal {name}[{component}]"

"""Layouts of public driving datasets: the flags that read them. Flags that are given win."""

from __future__ import annotations

from typing import Any, Final, Literal

Layout = Literal["comma2k19", "speed_challenge"]

LAYOUTS: Final[dict[str, dict[str, Any]]] = {
    # https://github.com/commaai/comma2k19: ROUTE/SEGMENT/video.hevc, raw and at 20 frames/s, and beside it
    # processed_log/CAN/speed/t and value. The segments of a route follow each other.
    "comma2k19": {
        "telemetry": "processed_log/CAN",
        "time_column": "t",
        "source_rate": "20",
        "label_columns": "speed",
        "label_units": "m/s",
        "group_by": r"^(.*?)\d+/video\.hevc$",
    },
    # https://github.com/commaai/speedchallenge: train.mp4, and in train.txt a speed for each frame.
    "speed_challenge": {
        "telemetry": "{stem}.txt",
        "telemetry_columns": "speed",
        "label_columns": "speed",
        "label_units": "m/s",
    },
}


def fill_layout(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options with those of their ``layout``, if it is known, where they are not given."""
    return {**LAYOUTS.get(str(options.get("layout")), {}), **options}

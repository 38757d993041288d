"""Footage to TFRecords with Apache Beam: list sources, plan shards, build them, describe the dataset.

Each verb of the command line has a Python call, with the verb's flags as keywords: `build_videos`,
`build_dashcam`, `validate`, `predict`, `merge`, `show`, `telemetry` and `adopt`. They raise
`UserError`, and `UsageError` for a wrong option.

    from pipelines import build_videos

    info = build_videos("clips", "dataset", num_frames=16, frame_rate=10, size=(128, 171))
    info.spec.image.shape  # (128, 171, 3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.errors import UsageError, UserError

if TYPE_CHECKING:
    from pipelines.verbs import (
        adopt,
        build_dashcam,
        build_videos,
        merge,
        predict,
        show,
        telemetry,
        validate,
    )

__all__ = [
    "UsageError",
    "UserError",
    "adopt",
    "build_dashcam",
    "build_videos",
    "merge",
    "predict",
    "show",
    "telemetry",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Imports the calls when they are first used, because decoder processes import this package too."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipelines import verbs

    return getattr(verbs, name)


def __dir__() -> list[str]:
    return __all__

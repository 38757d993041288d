"""Asks a decoder process to draw captions on footage; see `protocol` for how it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.decoding.protocol import BuildRequest, request_from_json

ASK = "overlay"


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Lines of text that are shown from ``start`` on, seconds after the file's first frame."""

    start: float
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OverlayRequest:
    """Asks for the footage of a source with captions on it.

    Attributes:
        build: whose segment is the source; what it says of records does not matter.
        captions: in order; each holds until the next.
        output: path of the video to write.
    """

    build: BuildRequest
    captions: tuple[Caption, ...]
    output: str

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return {
            "ask": ASK,
            "build": self.build.to_json(),
            "captions": [[caption.start, list(caption.lines)] for caption in self.captions],
            "output": self.output,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> OverlayRequest:
        """The request that `to_json` described.

        Raises:
            ValueError: when ``build`` is none.
        """
        build = request_from_json(fields["build"])
        if not isinstance(build, BuildRequest):
            raise ValueError(f"expected a request to build, got {type(build).__name__}")
        captions = tuple(
            Caption(start=start, lines=tuple(lines)) for start, lines in fields["captions"]
        )
        return cls(build=build, captions=captions, output=fields["output"])

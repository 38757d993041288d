"""What all measurements share: where they work, how much they do, and what they found."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from building.footage import (
    Kind,
    count_frames,
    count_seconds,
    cut,
    describe,
    make_clip,
    repeat,
    spread,
)
from building.measuring import Spent, interleave, ratio, show
from building.sides import BareProcesses

KINDS = {
    "720p": Kind(720, 1280, 12_000_000),
    "720p_b": Kind(720, 1280, 12_000_000, b_frames=3),
    "540p": Kind(540, 960, 4_000_000),
    "360p": Kind(360, 640, 1_500_000),
    "240p": Kind(240, 320, 600_000),
}


class Outside(NamedTuple):
    """Other people's generators: checkouts of them, and the Python that has what they import."""

    dmvr: Path | None = None
    video2tfrecord: Path | None = None
    python: str = sys.executable


class Finding(NamedTuple):
    """A measured figure beside its target; ``met`` is None where there is no target."""

    what: str
    value: str
    target: str
    met: bool | None


@dataclass
class Bench:
    """One run of the benchmark.

    Attributes:
        folder: to work in; emptied by its owner.
        bare: processes to compare with.
        repeats: rounds, of all sides in turn.
        part: of the usual amount of footage.
        workers: of builds.
        footage: the user's own; empty for clips made here.
        outside: other people's generators to compare with.
        findings: so far.
    """

    folder: Path
    bare: BareProcesses
    repeats: int = 3
    part: float = 1.0
    workers: int = 2
    footage: tuple[Path, ...] = ()
    outside: Outside = Outside()  # noqa: RUF009 - it is immutable
    findings: list[Finding] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.folder / "dataset"

    def clear(self) -> None:
        """Removes what was built."""
        shutil.rmtree(self.output, ignore_errors=True)

    def find(self, what: str, value: str, target: str = "", met: bool | None = None) -> None:
        self.findings.append(Finding(what, value, target, met))
        print(f"  {what}: {value}" + (f" (target: {target})" if target else ""))

    def measure(
        self,
        sides: Mapping[str, Callable[[], object]],
        amount: float = 0,
        units: str = "",
        repeats: int | None = None,
    ) -> dict[str, list[Spent]]:
        """Times the sides in turn, each without what was built before, and prints a line a side."""
        spent = interleave(sides, repeats or self.repeats, self.clear)
        show(spent, amount, units)
        return spent

    def find_speed(
        self,
        what: str,
        peer: Sequence[Spent],
        ours: Sequence[Spent],
        least: float | None = None,
        note: str = "",
    ) -> None:
        """Finds how many times as fast as a peer we are: at ``least`` so, where there is a target."""
        value, cpu = ratio(peer, ours), ratio(peer, ours, "cpu")
        text = f"{value:.2f} times as fast, {cpu:.2f} by CPU time{note}"
        if least is None:
            self.find(what, text)
        else:
            self.find(what, text, f"at least {least}", value >= least)

    def count(self, usual: int, least: int = 1) -> int:
        """``part`` of a usual number."""
        return max(least, round(usual * self.part))

    def clips(self, *names: str) -> list[Path]:
        """The user's files; without any, a clip of each kind, 10 s long."""
        return list(self.footage) or [self._made(name) for name in names]

    def clip(self, name: str) -> Path:
        """The user's first file; without any, a clip of the kind."""
        return self.clips(name)[0]

    def _made(self, name: str) -> Path:
        path = self.folder / f"{name}.mp4"
        if not path.exists():
            make_clip(path, KINDS[name], seconds=min(10.0, max(2.0, 100 * self.part)))
        return path

    def sources(self, clip: Path, seconds: float, count: int) -> list[Path]:
        """Videos of ``seconds`` in all that repeat a clip; their grandparent is what to build from."""
        times = max(1, round(seconds / count / count_seconds(clip)))
        long = repeat(clip, self.folder / f"long{clip.suffix}", times)
        return spread(long, self.new_folder("sources"), count)

    def videos(self, clip: Path, seconds: float, count: int) -> tuple[list[Path], int]:
        """`sources`, and how many frames they have in all; says both."""
        sources = self.sources(clip, seconds, count)
        total = count * count_frames(sources[0])
        print(f"{describe(clip)}; {count} videos, {total:,} frames")
        return sources, total

    def shorts(self, clip: Path, seconds: float, count: int) -> list[Path]:
        """So many videos of the first ``seconds`` of a clip."""
        short = cut(clip, self.folder / f"short{clip.suffix}", seconds)
        return spread(short, self.new_folder("shorts"), count)

    def new_folder(self, name: str) -> Path:
        """A folder that is not there yet."""
        number = 0
        while (path := self.folder / f"{name}{number}").exists():
            number += 1
        path.mkdir()
        return path

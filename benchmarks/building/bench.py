"""Shared state of all measurements: work folder, amount of footage, findings."""

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
    """Checkouts of other generators, and a Python with the packages that they import."""

    dmvr: Path | None = None
    video2tfrecord: Path | None = None
    python: str = sys.executable


class Finding(NamedTuple):
    """A measured figure and its target; ``met`` is None if there is no target."""

    name: str
    value: str
    target: str
    met: bool | None


@dataclass
class Bench:
    """One run of the benchmark.

    Attributes:
        folder: the work folder; its owner removes it.
        bare: processes to compare with.
        repeats: rounds, in each of which all sides take their turn.
        part: fraction of the usual amount of footage.
        workers: workers of builds.
        footage: the user's videos; empty to generate clips.
        outside: other generators to compare with.
        findings: the findings so far.
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
        """Removes the built dataset."""
        shutil.rmtree(self.output, ignore_errors=True)

    def find(self, name: str, value: str, target: str = "", met: bool | None = None) -> None:
        """Records and prints a finding."""
        self.findings.append(Finding(name, value, target, met))
        print(f"  {name}: {value}" + (f" (target: {target})" if target else ""))

    def measure(
        self,
        sides: Mapping[str, Callable[[], object]],
        amount: float = 0,
        units: str = "",
        repeats: int | None = None,
    ) -> dict[str, list[Spent]]:
        """Times the sides in turn, each on an empty output, and prints one line per side."""
        spent = interleave(sides, repeats or self.repeats, self.clear)
        show(spent, amount, units)
        return spent

    def find_speed(
        self,
        name: str,
        peer: Sequence[Spent],
        ours: Sequence[Spent],
        target: float | None = None,
        note: str = "",
    ) -> None:
        """Records the speed of our side relative to a peer, with the minimum ``target`` if there is one."""
        value, cpu = ratio(peer, ours), ratio(peer, ours, "cpu")
        text = f"{value:.2f} times as fast, {cpu:.2f} by CPU time{note}"
        if target is None:
            self.find(name, text)
        else:
            self.find(name, text, f"at least {target}", value >= target)

    def count(self, usual: int, minimum: int = 1) -> int:
        """Returns the ``part`` of a usual number."""
        return max(minimum, round(usual * self.part))

    def clips(self, *names: str) -> list[Path]:
        """Returns the user's files or, if there are none, a clip of 10 s of each kind."""
        return list(self.footage) or [self._make_clip(name) for name in names]

    def clip(self, name: str) -> Path:
        """Returns the user's first file or, if there is none, a clip of the kind."""
        return self.clips(name)[0]

    def _make_clip(self, name: str) -> Path:
        path = self.folder / f"{name}.mp4"
        if not path.exists():
            make_clip(path, KINDS[name], seconds=min(10.0, max(2.0, 100 * self.part)))
        return path

    def sources(self, clip: Path, seconds: float, count: int) -> list[Path]:
        """Returns videos of ``seconds`` in total that repeat a clip; their grandparent is a build's input."""
        times = max(1, round(seconds / count / count_seconds(clip)))
        long = repeat(clip, self.folder / f"long{clip.suffix}", times)
        return spread(long, self.new_folder("sources"), count)

    def videos(self, clip: Path, seconds: float, count: int) -> tuple[list[Path], int]:
        """Returns `sources` and their total number of frames, and prints both."""
        sources = self.sources(clip, seconds, count)
        total = count * count_frames(sources[0])
        print(f"{describe(clip)}; {count} videos, {total:,} frames")
        return sources, total

    def short_videos(self, clip: Path, seconds: float, count: int) -> list[Path]:
        """Returns ``count`` videos of the first ``seconds`` of a clip."""
        short = cut(clip, self.folder / f"short{clip.suffix}", seconds)
        return spread(short, self.new_folder("short"), count)

    def new_folder(self, name: str) -> Path:
        """Creates a new folder."""
        number = 0
        while (path := self.folder / f"{name}{number}").exists():
            number += 1
        path.mkdir()
        return path

"""Draws clips of 10x10 gray pixels in which a line grows to the left or to the right.

    python examples/moving_line.py --output lines --clips 400

Each clip is a folder of 10 PNG frames in the folder of its class: ``lines/left/0000/00.png``. A frame has one
more pixel of the line than the frame before. Each pixel lies at most one row above or below the last one.
The last frame shows the whole line, so that only the order of the frames reveals the direction.
docs/tutorials.md has the commands that train on the clips.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

SIZE = 10
CLASSES = ("left", "right")


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the clips."""
    parser = argparse.ArgumentParser(description="Draws clips of a line that moves left or right.")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the classes"
    )
    parser.add_argument("--clips", type=int, default=400, help="number of clips (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the lines (default: 0)")
    options = parser.parse_args(argv)
    for index in range(options.clips):
        name = CLASSES[index % 2]
        folder = options.output / name / f"{index:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        frames = draw_line(np.random.default_rng((options.seed, index)), to_left=name == "left")
        for i, frame in enumerate(frames):
            cv2.imwrite(str(folder / f"{i:02d}.png"), frame)


def draw_line(random: np.random.Generator, *, to_left: bool) -> npt.NDArray[np.uint8]:
    """Returns the frames of one clip, ``[10, 10, 10]``: 255 for the line, 0 elsewhere."""
    frames = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    row = random.integers(SIZE)
    for step in range(SIZE):
        column = SIZE - 1 - step if to_left else step
        frames[step:, row, column] = 255
        row = np.clip(row + random.integers(-1, 2), 0, SIZE - 1)
    return frames


if __name__ == "__main__":
    main()

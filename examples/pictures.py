"""Renews the pictures of README.md from the results of the demo.

    make demo
    python examples/pictures.py --demo demo_output

The picture of the report needs Chromium.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from trainer import load_run, read_sequences

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
ROWS, SCALE = 4, 3
DRAWN = 3


def main(argv: Sequence[str] | None = None) -> None:
    """Writes ``filmstrip.jpg``, ``overlay.jpg`` and ``report.jpg`` in ``docs/pictures``."""
    parser = argparse.ArgumentParser(description="Renews the pictures of README.md.")
    parser.add_argument(
        "--demo", type=Path, default=Path("demo_output"), metavar="DIR", help="folder of the demo"
    )
    demo = parser.parse_args(argv).demo
    PICTURES.mkdir(exist_ok=True)
    write(PICTURES / "filmstrip.jpg", filmstrip(demo))
    write(PICTURES / "overlay.jpg", overlay(demo))
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        page = (demo / "run" / "report.html").resolve().as_uri()
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,800"]
        subprocess.run(["chromium", *flags, f"--screenshot={shot}", page], check=True)
        write(PICTURES / "report.jpg", cv2.imread(str(shot)))


def write(path: Path, picture: np.ndarray) -> None:
    """Writes a picture, uint8 BGR."""
    path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes())


def filmstrip(demo: Path) -> np.ndarray:
    """Returns test sequences of different speeds, one per row, with their true and predicted speed."""
    frames, speeds = [], []
    for features, labels in read_sequences(demo / "dataset", "test", batch_size=16):
        frames.extend(features["image"].numpy())
        speeds.extend(labels.numpy().ravel())
    run = load_run(demo / "run")
    order = np.argsort(speeds)
    rows = []
    for index in order[np.linspace(0, len(order) - 1, ROWS).astype(int)]:
        (row,) = run.predict(frames[index])
        strip = np.hstack([cv2.resize(f, None, fx=SCALE, fy=SCALE) for f in frames[index]])
        text = f"speed {speeds[index]:.1f} m/s, predicted {row['values']['speed']:.1f} m/s"
        strip[:32] //= 3
        cv2.putText(strip, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)
        rows.append(np.pad(strip, ((0, 4), (0, 0), (0, 0)), constant_values=255))
    return np.vstack(rows)[..., ::-1]


def overlay(demo: Path) -> np.ndarray:
    """Returns the frame at 2 s of some videos on which predictions are drawn, side by side."""
    frames = []
    for path in sorted((demo / "overlay").glob("*.mp4"))[:DRAWN]:
        video = cv2.VideoCapture(str(path))
        video.set(cv2.CAP_PROP_POS_MSEC, 2000)
        is_read, frame = video.read()
        if not is_read:
            raise SystemExit(f"{path} cannot be read: run the demo again")
        frame = cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        frames.append(np.pad(frame, ((0, 0), (0, 4), (0, 0)), constant_values=255))
    return np.hstack(frames)


if __name__ == "__main__":
    main()

"""Renders dash-cam drives with a known ground speed, as H.264 files with a ``manifest.csv``.

    python examples/render_drives.py --output drives --drives 60 --seconds 16

A camera looks down a straight road. Its speed is constant for `CLIP_SECONDS` and then changes. Each such
clip is a line of the manifest. All clips of a drive are one group, so that no road is in two splits.
Everything else (texture of the ground, light, camera height, pitch, focal length, position in the lane,
starting point) is a property of the drive. It is drawn from a random stream that is independent of the
speeds:

- The ground repeats every `TILE` metres, and the starting point is uniform over a tile. The picture at any
  moment therefore has the same distribution at every speed. **A single frame does not reveal the speed.**
  There is no motion blur, which would reveal it.
- A drive has many speeds, so that recognising its road does not reveal the speed either.

Motion alone is not enough. The optical flow of a bare ground plane gives the speed only in units of camera
height times focal length, and both are unknown. The scale comes from the road markings. They follow the
United Kingdom's standard for limits up to 40 mph (Traffic Signs Manual, chapter 5, tables 4-1 and 4-3):
broken lines repeat every 6 m, with a mark of 2 m and a gap of 4 m, or the reverse for a warning line. With
any camera, marks pass a point of the picture ``speed / 6 m`` times per second.

This also limits the speeds. At 15 m/s and 10 frames/s, the markings advance by a quarter of their period per
frame. Beyond half a period they would seem to move backwards.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

SPEEDS = (3.0, 15.0)  # m/s
CLIP_SECONDS = 2
SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}
SURFACES = ("asphalt", "cracked", "gravel", "patched", "wet")

TILE = 48.0  # m after which the ground repeats: a multiple of the markings' period
GROUND_WIDTH = 24.0  # m, centred on the lane the camera drives in
TEXEL = 0.05  # m
LANE_WIDTH = 3.5  # m
MARKING_PERIOD = 6.0  # m
MARKING_WIDTH = 0.15  # m
MAX_DISTANCE = 70.0  # m; haze hides the ground beyond it


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera above the plane of the ground.

    Attributes:
        size: height and width of its frames, in pixels.
        height: above the ground, in metres.
        pitch: angle of the optical axis below the horizontal, in radians.
        focal: focal length, in frame widths.
        offset: distance from the middle of its lane to the right, in metres.
    """

    size: tuple[int, int]
    height: float
    pitch: float
    focal: float
    offset: float

    def ground(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the point of the ground that each pixel shows.

        Returns:
            ``[rows]``, metres ahead of the camera, infinite from the horizon up; and ``[rows, columns]``,
            metres to the right of the middle of the lane.
        """
        rows, columns = self.size
        focal = self.focal * columns
        down = (np.arange(rows) - (rows - 1) / 2) / focal
        across = (np.arange(columns) - (columns - 1) / 2) / focal
        drop = down * np.cos(self.pitch) + np.sin(self.pitch)
        scale = np.full(rows, np.inf)
        np.divide(self.height, drop, out=scale, where=drop > 1e-6)
        ahead = scale * (np.cos(self.pitch) - down * np.sin(self.pitch))
        with np.errstate(invalid="ignore"):  # infinity times 0
            right = scale[:, None] * across + self.offset
        return ahead, right


@dataclass(frozen=True, kw_only=True)
class Drive:
    """The properties of a drive that determine its pictures.

    Attributes:
        name: name of its file and of its group.
        split: ``train``, ``validation`` or ``test``.
        speeds: speed of each clip over the ground, in m/s.
        start: initial position of the camera along the tile, in metres.
        surface: one of `SURFACES`.
        mark: length of a mark of the broken line, in metres.
        exposure: factor applied to all light.
        shadows: the share of light that shadows on the ground absorb.
        seed: seed of the texture of ground and sky.
    """

    name: str
    split: str
    speeds: tuple[float, ...]
    start: float
    camera: Camera
    surface: str
    mark: float
    exposure: float
    shadows: float
    seed: tuple[int, ...]

    def place(self, seconds: float) -> float:
        """Returns the position along the road after ``seconds``, in metres."""
        ends = CLIP_SECONDS * np.arange(len(self.speeds) + 1)
        travelled = np.concatenate([[0.0], CLIP_SECONDS * np.cumsum(self.speeds)])
        return self.start + float(np.interp(seconds, ends, travelled))


def draw_drives(count: int, *, clips: int, size: tuple[int, int], seed: int) -> list[Drive]:
    """Draws ``count`` drives of ``clips`` clips each.

    `SPEEDS` is divided into as many equal intervals as a split has clips. One speed is drawn from each
    interval, and the speeds are assigned to the clips in random order. Even a small test split therefore
    has the mean and spread of the training split.
    """
    splits = _deal_splits(count)
    speeds = np.empty((count, clips))
    rng = np.random.default_rng((seed, 1))
    for split in SPLITS:
        members = splits == split
        number = int(members.sum()) * clips
        shares = (np.arange(number) + rng.uniform(size=number)) / max(number, 1)
        spread = SPEEDS[0] + (SPEEDS[1] - SPEEDS[0]) * rng.permutation(shares)
        speeds[members] = spread.reshape(-1, clips)
    return [
        _draw_drive(index, str(splits[index]), tuple(speeds[index].tolist()), size, seed)
        for index in range(count)
    ]


def _deal_splits(count: int) -> np.ndarray:
    """Returns the split of each drive, in the shares of `SPLITS`, evenly spread over the drives."""
    bounds = np.cumsum(list(SPLITS.values()))[:-1]
    # Any number of multiples of the golden ratio, modulo 1, fills the unit interval evenly.
    positions = (np.arange(count) + 0.5) * ((5**0.5 - 1) / 2) % 1
    return np.array(list(SPLITS))[np.searchsorted(bounds, positions, side="right")]


def _draw_drive(
    index: int, split: str, speeds: tuple[float, ...], size: tuple[int, int], seed: int
) -> Drive:
    rng = np.random.default_rng((seed, 2, index))
    camera = Camera(
        size=size,
        height=rng.uniform(1.2, 1.6),
        pitch=math.radians(rng.uniform(11, 15)),
        focal=rng.uniform(0.8, 1.0),
        offset=rng.uniform(-0.3, 0.3),
    )
    return Drive(
        name=f"drive_{index:03d}",
        split=split,
        speeds=speeds,
        start=rng.uniform(0, TILE),
        camera=camera,
        surface=str(rng.choice(SURFACES)),
        mark=float(rng.choice([2.0, 4.0])),
        exposure=rng.uniform(0.6, 1.2),
        shadows=rng.uniform(0.0, 0.4),
        seed=(seed, 3, index),
    )


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Returns smooth noise of unit variance, float32 of ``shape``, that repeats along both axes.

    ``cell`` is the size of its features in pixels.
    """
    knots = [max(round(extent / cell), 2) for extent in shape]
    grid = np.pad(rng.standard_normal(knots, dtype=np.float32), 2, mode="wrap")
    rows, columns = (
        (np.arange(extent) * (count / extent) + 2).astype(np.float32)
        for extent, count in zip(shape, knots, strict=True)
    )
    field = cv2.remap(grid, *np.meshgrid(columns, rows), cv2.INTER_CUBIC)
    return field / field.std()


def paint_ground(drive: Drive) -> np.ndarray:
    """Returns the ground seen from above, uint8 RGB with a texel every `TEXEL` metres.

    Rows go ahead along the road and repeat after `TILE`; columns go right, centred on the lane.
    """
    rng = np.random.default_rng(drive.seed)
    shape = (round(TILE / TEXEL), round(GROUND_WIDTH / TEXEL))
    right = (np.arange(shape[1]) + 0.5) * TEXEL - GROUND_WIDTH / 2
    road = _paint_road(rng, shape, drive.surface)
    verge = _paint_verge(rng, shape)
    from_middle = np.abs(right - LANE_WIDTH / 2 + 0.1 * noise(rng, shape, 12))
    ground = np.where((from_middle < LANE_WIDTH + 0.5)[..., None], road, verge)

    wear = np.clip(0.85 - 0.15 * np.abs(noise(rng, shape, 3)), 0.4, 1)
    opacity = (_markings(shape[0], right, drive.mark, rng.uniform(0, TILE)) * wear)[..., None]
    ground += (rng.uniform(190, 230) - ground) * opacity
    ground *= (drive.exposure * _sunlight(rng, shape, drive.shadows))[..., None]
    return np.clip(ground, 0, 255).astype(np.uint8)


def _paint_road(rng: np.random.Generator, shape: tuple[int, int], surface: str) -> np.ndarray:
    """Returns the colour of the road, float32 ``[rows, columns, 3]``."""
    grain, mottle = noise(rng, shape, 1.5), noise(rng, shape, rng.uniform(15, 50))
    grey = rng.uniform(70, 120)
    if surface == "asphalt":
        value = grey + 14 * grain + 6 * mottle
    elif surface == "cracked":
        cracks = np.exp(-((noise(rng, shape, rng.uniform(15, 35)) / 0.06) ** 2))
        value = (grey + 8 * grain + 5 * mottle) * (1 - 0.6 * cracks)
    elif surface == "gravel":
        value = grey + 18 * np.tanh(2 * noise(rng, shape, rng.uniform(2.5, 5))) + 8 * grain
    elif surface == "patched":
        value = grey + 10 * np.round(1.2 * mottle) + 8 * grain
    else:  # wet
        value = 0.7 * grey + 60 * np.clip(mottle - 0.8, 0, 1) + 8 * grain
    return (value[..., None] * rng.uniform(0.94, 1.06, size=3)).astype(np.float32)


def _paint_verge(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Returns the colour of grass, earth or sand, float32 ``[rows, columns, 3]``."""
    colour = np.array([(70, 95, 50), (110, 90, 65), (150, 135, 100)])[rng.integers(3)]
    value = 1 + 0.2 * noise(rng, shape, 2.5) + 0.15 * noise(rng, shape, rng.uniform(12, 30))
    return (value[..., None] * colour).astype(np.float32)


def _markings(rows: int, right: np.ndarray, mark: float, phase: float) -> np.ndarray:
    """Returns a mask ``[rows, columns]`` of paint: solid lines at the edges, a broken one between lanes."""

    def line(middle: float) -> np.ndarray:
        return np.abs(right - middle) < MARKING_WIDTH / 2

    ahead = (np.arange(rows) + 0.5) * TEXEL
    marked = (ahead + phase) % MARKING_PERIOD < mark
    return line(-LANE_WIDTH / 2) | line(1.5 * LANE_WIDTH) | (marked[:, None] & line(LANE_WIDTH / 2))


def _sunlight(rng: np.random.Generator, shape: tuple[int, int], depth: float) -> np.ndarray:
    """Returns the light on the ground, float32: from 1 in the sun to ``1 - depth`` in the shadows."""
    return 1 - depth / (1 + np.exp(-4 * noise(rng, shape, rng.uniform(30, 100))))


def _paint_sky(rng: np.random.Generator, size: tuple[int, int], exposure: float) -> np.ndarray:
    """Returns haze below a blue or grey sky with clouds, float32 ``[rows, columns, 3]``."""
    haze = np.full(3, rng.uniform(150, 190))
    zenith = np.array([(90, 130, 200), (130, 140, 150)])[rng.integers(2)]
    clouds = rng.uniform(0, 20) * noise(rng, size, size[0] / 6)[..., None]
    height = np.linspace(1, 0, size[0])[:, None, None]
    return (exposure * (haze + (zenith - haze + clouds) * height)).astype(np.float32)


class Renderer:
    """Renders one drive's road from any position along it."""

    def __init__(self, drive: Drive):
        ahead, right = drive.camera.ground()
        self._sky = _paint_sky(np.random.default_rng((*drive.seed, 1)), right.shape, drive.exposure)
        self._horizon = int(np.argmax(ahead < MAX_DISTANCE))
        ahead, right = ahead[self._horizon :], right[self._horizon :]
        self._bands = _bands(paint_ground(drive), ahead, right)
        clearness = 1 - (ahead / MAX_DISTANCE) ** 2
        self._clearness = clearness[:, None, None].astype(np.float32)
        self._haze = (1 - self._clearness) * self._sky[self._horizon]

    def frame(self, place: float) -> np.ndarray:
        """Returns the picture at ``place`` metres along the road: uint8 RGB ``[rows, columns, 3]``."""
        ground = np.concatenate([band.look(place) for band in self._bands])
        frame = self._sky.copy()
        frame[self._horizon :] = ground * self._clearness + self._haze
        return np.clip(np.round(frame), 0, 255).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class _Band:
    """Neighbouring rows of the picture, with the ground at the resolution that they show.

    Attributes:
        ground: uint8 RGB; its last row repeats the first, to interpolate across the tile's end.
        ahead: position of each row of the picture, in rows of ``ground``.
        right: position of each pixel, in columns of ``ground``.
    """

    ground: np.ndarray
    ahead: np.ndarray
    right: np.ndarray

    def look(self, place: float) -> np.ndarray:
        length = len(self.ground) - 1
        rows = (self.ahead + place * (length / TILE)) % length
        rows = np.broadcast_to(rows[:, None].astype(np.float32), self.right.shape)
        return cv2.remap(
            self.ground, self.right, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )


def _bands(ground: np.ndarray, ahead: np.ndarray, right: np.ndarray) -> list[_Band]:
    """Groups the picture's rows by the ground that a pixel covers, so that distant rows do not flicker."""
    along, across = np.abs(np.gradient(ahead)), right[:, 1] - right[:, 0]  # metres a pixel covers
    levels = np.round(2 * np.log2(np.maximum(along / TEXEL, 1)))
    bands = []
    for level in np.unique(levels)[::-1]:
        rows = levels == level
        length = round(len(ground) / 2 ** (level / 2))
        width = min(round(GROUND_WIDTH / across[rows].mean()), ground.shape[1])
        shrunk = cv2.resize(ground, (width, length), interpolation=cv2.INTER_AREA)
        columns = (_fold(right[rows]) / GROUND_WIDTH + 0.5) * width - 0.5
        bands.append(
            _Band(
                ground=np.concatenate([shrunk, shrunk[:1]]),
                ahead=ahead[rows] * (length / TILE) - 0.5,
                right=columns.astype(np.float32),
            )
        )
    return bands


def _fold(right: np.ndarray) -> np.ndarray:
    """Repeats the verge, mirrored, where the picture is wider than the ground."""
    edge, inner = GROUND_WIDTH / 2, GROUND_WIDTH / 4  # the road ends before the inner one
    mirrored = edge - np.abs((np.abs(right) - inner) % (2 * (edge - inner)) - (edge - inner))
    return np.where(np.abs(right) > inner, np.copysign(mirrored, right), right)


def render(drive: Drive, frame_rate: Fraction) -> Iterator[np.ndarray]:
    """Yields the drive's frames, every ``1 / frame_rate`` seconds: uint8 RGB ``[rows, columns, 3]``."""
    renderer = Renderer(drive)
    for index in range(int(len(drive.speeds) * CLIP_SECONDS * frame_rate)):
        yield renderer.frame(drive.place(float(index / frame_rate)))


def write_video(
    path: Path, frames: Iterable[np.ndarray], *, size: tuple[int, int], frame_rate: Fraction
) -> None:
    """Encodes RGB frames as H.264 in limited-range BT.709, tagged as such, with a keyframe per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=frame_rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        # x264's macroblock tree is not deterministic on CPUs with AVX-512.
        stream.options = {"crf": "18", "preset": "veryfast", "x264-params": "mbtree=0"}
        context = stream.codec_context
        context.gop_size = math.ceil(frame_rate)
        context.thread_count = 1  # the bytes depend on the number of threads
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = ColorRange.MPEG
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_manifest(path: Path, drives: Sequence[Drive]) -> None:
    """Writes one line per clip, for `pipelines videos --label_columns speed`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "start", "end", "speed", "group", "split"])
        for drive in drives:
            for clip, speed in enumerate(drive.speeds):
                start = clip * CLIP_SECONDS
                span = (start, start + CLIP_SECONDS)
                writer.writerow(
                    [f"{drive.name}.mp4", *span, f"{speed:.4f}", drive.name, drive.split]
                )


def _write_drive(output: Path, frame_rate: Fraction, drive: Drive) -> None:
    path = output / f"{drive.name}.mp4"
    write_video(path, render(drive, frame_rate), size=drive.camera.size, frame_rate=frame_rate)


def render_drives(
    output: Path,
    *,
    drives: int,
    seconds: int,
    size: tuple[int, int],
    frame_rate: Fraction,
    seed: int,
) -> list[Drive]:
    """Renders the drives into the folder ``output``, and then its ``manifest.csv``."""
    output.mkdir(parents=True, exist_ok=True)
    plan = draw_drives(drives, clips=seconds // CLIP_SECONDS, size=size, seed=seed)
    with ProcessPoolExecutor(2, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for _ in pool.map(functools.partial(_write_drive, output, frame_rate), plan):
            pass
    write_manifest(output / "manifest.csv", plan)
    return plan


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description="Renders dash-cam drives of known speed, and a manifest.csv of their clips."
    )
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the videos and the manifest",
    )
    add(
        "--drives",
        type=_above_zero(int),
        default=60,
        metavar="N",
        help="number of drives (default: 60)",
    )
    add(
        "--seconds",
        type=_seconds,
        default=16,
        metavar="S",
        help="length of a drive in seconds (default: 16)",
    )
    add(
        "--size",
        type=_size,
        default=(96, 144),
        metavar="HxW",
        help="height and width of frames (default: 96x144)",
    )
    add(
        "--frame_rate",
        type=_above_zero(Fraction),
        default=Fraction(20),
        help="frames per second (default: 20)",
    )
    add("--seed", type=int, default=0, help="seed of the drives (default: 0)")
    options = parser.parse_args(argv)
    drives = render_drives(**vars(options))
    clips = sum(len(drive.speeds) for drive in drives)
    print(f"{len(drives)} drives, {clips} clips: {options.output / 'manifest.csv'}")


def _above_zero(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except (ValueError, ZeroDivisionError):
            value = 0
        if value <= 0:
            raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
        return value

    return parse


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < CLIP_SECONDS or int(text) % CLIP_SECONDS:
        raise argparse.ArgumentTypeError(f"expected a multiple of {CLIP_SECONDS}, got {text!r}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, as in 96x144, got {text!r}")
    size = int(height), int(width)
    if min(size) < 32 or any(extent % 2 for extent in size):
        raise argparse.ArgumentTypeError(f"expected even numbers, 32 or more, got {text!r}")
    return size


if __name__ == "__main__":
    main()

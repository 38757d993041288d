"""Records against the ffmpeg program: which frames are chosen, and their pixels.

The program decodes every frame with its time. What is on screen at each slot is looked up in the plainest
way, and scaled; the frames of the records must have the same times and, within JPEG's error, the same pixels.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from fractions import Fraction
from typing import NamedTuple

import cv2
import numpy as np

from pipelines.decoding.protocol import BuildRequest
from pipelines.decoding.segments import build_segment
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from tfrecords_schema.examples import decode_record
from tfrecords_schema.spec import LabelSpec, SequenceSpec

HEIGHT, WIDTH = 36, 64
RATES = (Fraction(10), Fraction(24), None)
NUM_FRAMES = 4
# Two versions of swscale and a JPEG of quality 95 lie between the two; a wrong frame, matrix, range or
# turn differs by far more.
MEAN_LEVELS, MAX_LEVELS = 3.0, 30
_SHOWN = re.compile(r"n: *\d+ pts: *(\S+) .* s:(\d+)x(\d+) ")
_TIME_BASE = re.compile(r"config in time_base: (\d+)/(\d+)")
RAW = (".h264", ".hevc", ".m2v")


class Shown(NamedTuple):
    """A frame as the program shows it: seconds, and the picture scaled to the records' size."""

    time: Fraction
    pixels: np.ndarray


def decode_all(ffmpeg, path) -> tuple[list[Shown], Fraction]:
    """Every frame, and the time base."""
    # MPEG streams mark no time on some pictures; the program knows them from their order.
    base = [ffmpeg, "-hide_banner", "-nostdin", "-threads", "1", "-copyts", "-i", f"file:{path}"]
    base += ["-map", "0:v:0", "-an", "-vf", "showinfo", "-fps_mode", "passthrough"]
    head = subprocess.run(
        [*base, "-frames:v", "1", "-f", "null", "-"], capture_output=True, text=True, check=True
    )
    _, width, height = _SHOWN.search(head.stderr).groups()
    shape = int(height), int(width), 3
    # Otherwise it is darker by about a level.
    flags = "bicubic+accurate_rnd+full_chroma_int"
    command = [*base, "-f", "rawvideo", "-pix_fmt", "rgb24", "-sws_flags", flags, "-"]
    pictures = []
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as program,
    ):
        while len(data := program.stdout.read(int(np.prod(shape)))) == np.prod(shape):
            pixels = np.frombuffer(data, np.uint8).reshape(shape)
            pictures.append(through_jpeg(scale(pixels)))
        log.seek(0)
        said = log.read().decode(errors="replace")
    time_base = Fraction(*map(int, _TIME_BASE.search(said).groups()))
    times = [int(pts) * time_base for pts, *_ in _SHOWN.findall(said)]
    assert len(times) == len(pictures)
    return [Shown(*pair) for pair in zip(times, pictures, strict=True)], time_base


def scale(pixels):
    shrinks = pixels.shape[0] >= HEIGHT and pixels.shape[1] >= WIDTH
    return cv2.resize(
        pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def through_jpeg(pixels):
    """Returns pixels after JPEG encoding and decoding, as in a record."""
    data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1]


def choose(times, rate, tick):
    """Indices of the frames on screen at each slot from the first frame to the last."""
    if rate is None:
        return list(range(len(times)))
    # Containers round times to their tick: a frame up to one late was there in time. See docs/sampling.md.
    late = tick if tick <= Fraction(2, 1000) else 0
    chosen, slot = [], 0
    while times[0] + slot / rate <= times[-1] + late:
        now = times[0] + slot / rate
        chosen.append(max(i for i, time in enumerate(times) if time <= now + late))
        slot += 1
    return chosen


def build(path, rate):
    """Times (microseconds) and pictures of all frames in the records, and what the build says."""
    image = ImageOptions(size=(HEIGHT, WIDTH))
    sampling = SamplingOptions(num_frames=NUM_FRAMES, frame_rate=rate)
    source = Source(id="a", path=str(path), data_path="a", group="a", labels=("a",))
    spec = SequenceSpec(
        num_frames=NUM_FRAMES,
        frame_rate=None if rate is None else float(rate),
        image=image.spec,
        label=LabelSpec(task="classification", class_names=("a",)),
    )
    request = BuildRequest(
        segment=Segment(source=source),
        spec=spec,
        dataset_name="oracle",
        sampling=sampling,
        image=image,
        label_indices=(0,),
    )
    stored = []
    result = build_segment(request, stored.append, lambda: None)
    records = [decode_record(record, spec) for record in stored]
    times = [time for record in records for time in record.timestamps]
    pictures = [
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        for record in records
        for data in record.frames
    ]
    return times, pictures, result


def compare(name, pictures, expected) -> None:
    differences = [
        np.abs(picture.astype(int) - other)
        for picture, other in zip(pictures, expected, strict=True)
    ]
    assert differences
    mean = max(difference.mean() for difference in differences)
    most = max(np.percentile(difference, 99.5) for difference in differences)
    print(f"{name}: {len(pictures)} frames, mean {mean:.2f}, 99.5 % {most:.0f}")
    assert mean <= MEAN_LEVELS
    assert most <= MAX_LEVELS


def test_frames_and_pixels_match_ffmpeg(footage, ffmpeg) -> None:
    shown, tick = decode_all(ffmpeg, footage)
    if footage.suffix in RAW:
        # The program makes up times: frames are compared in their order.
        _, pictures, _ = build(footage, None)
        expected = [frame.pixels for frame in shown]
        compare(footage.name, pictures, expected[: len(expected) // NUM_FRAMES * NUM_FRAMES])
        return
    if footage.suffix == ".avi":
        tick = Fraction(1)  # the frame interval itself, which rounds nothing
    pixels = {round(frame.time * 1_000_000): frame.pixels for frame in shown}
    seconds = sorted({frame.time for frame in shown})
    for rate in RATES:
        times, pictures, result = build(footage, rate)
        expected = [round(seconds[i] * 1_000_000) for i in choose(seconds, rate, tick)]
        if result.damaged_seconds is None:
            assert times == expected[: len(expected) // NUM_FRAMES * NUM_FRAMES]
        else:
            assert set(times) < set(expected)  # the program shows what is damaged, too
        if times:
            compare(f"{footage.name} at {rate}", pictures, [pixels[time] for time in times])
        else:
            assert len(expected) < NUM_FRAMES

"""Compares the frames/s of `pipelines validate` with those of the JPEG decoder.

The upper limit is OpenCV decoding every frame of the dataset, with one thread per CPU and nothing else:
records are in memory, without checksums or checks. Validation reads the files and runs all checks, with a
strict decoder that reads the whole coded picture and computes fewer pixels of it. The time that this
decoder takes for all pixels, without checks, is printed too. Both run in turn in one process that has
imported Beam before, and medians are compared.

    python benchmarks/validation.py --tfrecords DIR [--repeats 5] [--min_ratio 0.8]

Without --tfrecords, temporary datasets of synthetic pictures with camera-like noise are generated.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from pipelines.options.dataset import RunOptions
from pipelines.validation.pipeline import validate
from pipelines.validation.thresholds import ValidationOptions
from tfrecords_schema.examples import SequenceRecord, parse_example
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import read_file
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

SIZES = ((90, 160), (180, 320))
FRAMES = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tfrecords", help="dataset with JPEG images (default: generated)")
    parser.add_argument("--records", type=int, default=3000, help="records of a generated dataset")
    parser.add_argument("--repeats", type=int, default=5, help="number of rounds")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="workers, and threads of the peer",
    )
    parser.add_argument(
        "--min_ratio", type=float, default=0.0, help="exit with status 1 below this ratio"
    )
    flags = parser.parse_args()
    print("command:", shlex.join([Path(sys.executable).name, *sys.argv]))
    print(
        f"on {flags.workers} of {os.cpu_count()} CPUs; Python {platform.python_version()}, "
        f"OpenCV {cv2.__version__}; peer: cv2.imdecode of every frame, {flags.workers} threads"
    )
    worst = 1.0
    if flags.tfrecords:
        worst = compare(Path(flags.tfrecords), flags)
    else:
        for height, width in SIZES:
            with tempfile.TemporaryDirectory(prefix="reelbeam-benchmark-") as folder:
                make_dataset(Path(folder), height, width, flags.records)
                worst = min(worst, compare(Path(folder), flags))
    return 1 if worst < flags.min_ratio else 0


def compare(folder: Path, flags: argparse.Namespace) -> float:
    """Returns the median ratio of validation's speed to the upper limit, over paired runs."""
    info = DatasetInfo.load(folder)
    images = list(read_images(folder, info))
    size = np.mean([len(image) for image in images])
    print(f"{folder}: {len(images)} JPEGs of {info.spec.image}, {size:.0f} bytes on average")
    decode_all(images[:1000], flags.workers)
    bounds, ours, cpu_ratios = [], [], []
    for repeat in range(flags.repeats):
        # Before and after: what else the machine does at the time weighs on both.
        spent = cpu_seconds()
        before = decode_all(images, flags.workers)
        decoding = cpu_seconds() - spent
        seconds = validate_all(folder, flags.workers)
        cpu_ratios.append(decoding / (cpu_seconds() - spent - decoding))
        after = decode_all(images, flags.workers)
        bounds.append((before + after) / 2)
        ours.append(seconds)
        print(
            f"  {repeat + 1}: decoder {len(images) / bounds[-1]:,.0f} frames/s, "
            f"validation {len(images) / seconds:,.0f} frames/s: {bounds[-1] / seconds:.2f}; "
            f"of CPU time {cpu_ratios[-1]:.2f}"
        )
    print(
        f"  simplejpeg, all pixels: {len(images) / decode_fast(images, flags.workers):,.0f} frames/s"
    )
    ratio = statistics.median(b / s for b, s in zip(bounds, ours, strict=True))
    print(
        f"  median: decoder {len(images) / statistics.median(bounds):,.0f} frames/s, validation "
        f"{len(images) / statistics.median(ours):,.0f} frames/s: {ratio:.2f} of the limit "
        f"(of CPU time, which other programs disturb less: {statistics.median(cpu_ratios):.2f})"
    )
    return ratio


def read_images(folder: Path, info: DatasetInfo) -> Iterator[bytes]:
    for split in info.splits.values():
        for shard in split.shards:
            for _, data in read_file(folder / shard.file):
                lists = parse_example(data).feature_lists.feature_list
                for step in lists["image/encoded"].feature:
                    yield step.bytes_list.value[0]


def cpu_seconds() -> float:
    """Returns the CPU seconds of this process and of its ended children."""
    return sum(os.times()[:4])


def decode_all(images: list[bytes], workers: int) -> float:
    """Returns the seconds that OpenCV takes to decode all images."""
    return in_threads(
        lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
        images,
        workers,
    )


def decode_fast(images: list[bytes], workers: int) -> float:
    """Returns the seconds that the decoder of validation takes for all images."""
    return in_threads(lambda data: simplejpeg.decode_jpeg(data, "BGR"), images, workers)


def in_threads(decode: Callable[[bytes], object], images: list[bytes], workers: int) -> float:
    """Returns the seconds to decode all images with ``workers`` threads."""

    def decode_some(place: int) -> None:
        for data in images[place::workers]:
            decode(data)

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(decode_some, range(workers)))
    return time.perf_counter() - started


def validate_all(folder: Path, workers: int) -> float:
    """Returns the seconds of a whole validation, with Beam."""
    options = ValidationOptions(tfrecords=str(folder), run=RunOptions(workers=workers))
    started = time.perf_counter()
    validate(options)
    return time.perf_counter() - started


def make_dataset(folder: Path, height: int, width: int, records: int) -> None:
    spec = SequenceSpec(
        num_frames=FRAMES,
        frame_rate=10.0,
        image=ImageSpec(height=height, width=width),
        label=LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",)),
    )
    counts = {"train": records * 8 // 10, "validation": records // 10, "test": records // 10}
    chosen, seed = {}, 0
    for split, count in counts.items():
        chosen[split] = [make_record(spec, seed + place) for place in range(count)]
        seed += count
    write_fake_dataset(folder, spec, counts, shards=4, records=chosen)


def make_record(spec: SequenceSpec, seed: int) -> SequenceRecord:
    bare = replace(spec, image=None, signals=(SignalSpec(name="none"),))
    frames = [make_image(spec.image, seed * FRAMES + place) for place in range(FRAMES)]
    return replace(fake_record(bare, seed), signals={}, frames=frames)


def make_image(spec: ImageSpec, seed: int) -> bytes:
    """Returns a JPEG about as hard to decode as footage: smooth shapes with fine noise."""
    random = np.random.default_rng(seed)
    size = (spec.width, spec.height)
    shapes = random.integers(0, 256, (6, 8, 3), np.uint8)
    noise = random.normal(0, 18, (spec.height // 2, spec.width // 2, 3)).astype(np.float32)
    smooth = cv2.resize(shapes, size, interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(smooth + cv2.resize(noise, size), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


if __name__ == "__main__":
    sys.exit(main())

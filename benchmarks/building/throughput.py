"""Measurements of builds without start-up, in a process that has imported everything."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from building.bench import Bench
from building.footage import count_frames, describe, repeat
from building.measuring import ratio, run_command
from building.quality import match_quality
from building.sides import OPTIONS, SIZE, build, decode, find_ffmpeg, run_ffmpeg, scale
from pipelines.images import frames

OURS = "pipelines videos"
BARE = "bare: decode, scale, encode"
DECODE = "bare: decode only"
FFMPEG = "ffmpeg -vf scale -f mjpeg"


def videos(sources: list[Path], *flags: object) -> tuple[object, ...]:
    """Returns the arguments of a build of windows of ten frames, all in one split."""
    common = ("--size", SIZE, "--num_frames", 10, "--splits", "train=1")
    return ("videos", "--input", sources[0].parents[1], *common, *flags)


def building(bench: Bench, command: Sequence[object], workers: int = 0) -> Callable[[], object]:
    """Returns a side that builds, by default with the bench's workers."""
    return partial(build, *command, output=bench.output, workers=workers or bench.workers)


def warm_up(bench: Bench) -> None:
    """Builds once, untimed, to import everything and start the decoders."""
    sources = bench.short_videos(bench.clip("240p"), 1.0, 16)
    building(bench, videos(sources, "--shards", 16))()


def end_to_end(bench: Bench) -> None:
    """Every frame of 720p and 540p H.264 to a JPEG of 180x320."""
    for clip in bench.clips("720p", "540p"):
        sources, total = bench.videos(clip, 240 * bench.part, 8)
        ffmpeg, quality = find_ffmpeg(), OPTIONS.jpeg_quality
        sides = {}
        if ffmpeg is None:
            print("  no ffmpeg program was found: the comparison with it is skipped")
        else:
            match = match_quality(ffmpeg, clip)
            quality = match.jpeg_quality
            print(
                f"  JPEGs: ours of quality {quality} {match.ours}; ffmpeg's {match.theirs}; "
                f"mean colours differ by {match.color_difference:.2f} levels"
            )
            each = [
                repeat(sources[0], bench.folder / f"own{place}{clip.suffix}", 8 // bench.workers)
                for place in range(bench.workers)
            ]
            sides[FFMPEG] = partial(run_ffmpeg, ffmpeg, each, bench.folder)
        command = videos(sources, "--shards", 8, "--jpeg_quality", quality)
        sides |= {
            OURS: building(bench, command),
            BARE: partial(bench.bare.decode_scale_encode, sources, bench.folder, quality),
            DECODE: partial(bench.bare.decode_only, sources),
        }
        spent = bench.measure(sides, total, "frames")
        name, ours = clip.stem, spent[OURS]
        bench.find_speed(f"{name}: build / the same in bare processes", spent[BARE], ours, 0.95)
        bench.find_speed(f"{name}: build / decoding alone", spent[DECODE], ours)
        if ffmpeg is not None:
            bench.find_speed(f"{name}: build / ffmpeg", spent[FFMPEG], ours, 1.15)
            limit = f"{name}: limit, decoding alone / ffmpeg"
            bench.find_speed(limit, spent[FFMPEG], spent[DECODE])


def skipping(bench: Bench) -> None:
    """One frame in five of video with B-frames, compared with decoding every frame."""
    sources, total = bench.videos(bench.clip("720p_b"), 120 * bench.part, 8)
    sides = {
        f"{OURS} --frame_rate 5": building(
            bench, videos(sources, "--shards", 8, "--frame_rate", 5)
        ),
        DECODE: partial(bench.bare.decode_only, sources),
    }
    ours, decoding = bench.measure(sides, total, "frames").values()
    bench.find_speed("one frame in five / decoding every frame", decoding, ours, 1.2)


def overlap(bench: Bench) -> None:
    """Sequences of 8 frames that start at every frame, compared with sequences that do not overlap."""
    sources, total = bench.videos(bench.clip("720p"), 80 * bench.part, 8)
    command = (*videos(sources, "--shards", 8), "--num_frames", 8)
    sides = {
        f"{OURS} --stride {stride}": building(bench, (*command, "--stride", stride))
        for stride in (1, 8)
    }
    every, eighth = bench.measure(sides, total, "frames").values()
    value, cpu = ratio(every, eighth), ratio(every, eighth, "cpu")
    bench.find(
        "8 frames: stride 1 / stride 8",
        f"{value:.2f} times the time, {cpu:.2f} of CPU",
        "at most 1.35",
        value <= 1.35,
    )


def short_clips(bench: Bench) -> None:
    """Many clips of 2 s, compared with bare processes on the same files."""
    clip = bench.clip("240p")
    sources = bench.short_videos(clip, 2.0, bench.count(1000, minimum=4))
    total = len(sources) * count_frames(sources[0])
    print(f"{describe(clip)}; {len(sources)} clips, {total:,} frames")
    sides = {
        OURS: building(bench, videos(sources)),
        BARE: partial(bench.bare.decode_scale_encode, sources, bench.folder),
    }
    ours, bare = bench.measure(sides, total, "frames").values()
    over = statistics.median(a.cpu - b.cpu for a, b in zip(ours, bare, strict=True))
    note = f" ({1000 * over / len(sources):+.1f} ms per clip)"
    bench.find_speed(f"{len(sources)} clips / the same in bare processes", bare, ours, 0.8, note)


def long_video(bench: Bench) -> None:
    """One long video with two workers, compared with one."""
    clip = bench.clip("360p")
    seconds = 3600 * bench.part
    sources = bench.sources(clip, seconds, 1)
    total = count_frames(sources[0])
    print(f"{describe(clip)}; one video of {total / 25 / 60:.1f} min, {total:,} frames")
    # Keeps the number of segments and shards the same for every part of the footage.
    cuts = ("--segment_length", 600 * bench.part, "--shard_size", round(bench.part * 2**27))
    command = videos(sources, *cuts)
    sides = {f"{OURS} --workers {workers}": building(bench, command, workers) for workers in (1, 2)}
    one, two = bench.measure(sides, total, "frames").values()
    bench.find_speed("one long video: 2 workers / 1", one, two, 1.8)


def frame_folders(bench: Bench) -> None:
    """Folders of JPEG files of the requested size, compared with ``cp -r``."""
    root = bench.new_folder("frames")
    total = _make_frame_folders(root, bench.clip("720p"), bench.count(20, minimum=2))
    print(f"{len(list(root.iterdir()))} folders of JPEGs, {total / 1e6:,.0f} MB, in the page cache")
    ours, copy = "pipelines dashcam --annotation", "cp -r"
    labels = ("--annotation", "annotation.json", "--label", "speed", "--frame_rate", 25)
    flags = ("--size", SIZE, "--num_frames", 10, "--splits", "train=1", "--shards", 8)
    command = ("dashcam", "--input", root, *labels, *flags)

    sides = {
        ours: building(bench, command),
        copy: partial(run_command, ["cp", "-r", root, bench.output]),
    }
    spent = bench.measure(sides, total / 1e6, "MB")
    value = ratio(spent[copy], spent[ours])
    speed = total / 1e6 / statistics.median(each.wall for each in spent[ours])
    bench.find(
        "folders of JPEGs stored as they are / cp -r",
        f"{value:.2f} times as fast, {speed:,.0f} MB/s",
        "at least 0.7, or 300 MB/s",
        value >= 0.7 or speed >= 300,
    )


def _make_frame_folders(root: Path, clip: Path, count: int) -> int:
    """Writes folders of frames with their annotations; returns the bytes of the frames."""
    files = [frames.encode(scale(frame), OPTIONS) for frame in decode(clip)]
    each = 1000 if count > 2 else 20
    for number in range(count):
        folder = root / f"{number:04d}"
        folder.mkdir()
        (folder / "annotation.json").write_text(json.dumps({"speed": number / 10}))
        for place in range(each):
            (folder / f"{place:05d}.jpg").write_bytes(files[place % len(files)])
    return count * sum(len(files[place % len(files)]) for place in range(each))

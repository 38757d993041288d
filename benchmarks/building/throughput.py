"""Measurements of builds without start-up: in a process that has imported everything."""

from __future__ import annotations

import json
import statistics
from functools import partial
from pathlib import Path

from building.bench import Bench
from building.footage import count_frames, describe, repeat
from building.measuring import Spent, interleave, ratio, run_command, show
from building.quality import match_quality
from building.sides import OPTIONS, SIZE, build, decode, find_ffmpeg, run_ffmpeg, scale
from pipelines import frames
from pipelines.decoding.conversion import FrameConverter

OURS = "pipelines videos"
BARE = "bare: decode, scale, encode"
DECODE = "bare: decode only"
FFMPEG = "ffmpeg -vf scale -f mjpeg"


def videos(sources: list[Path], *flags: object) -> tuple[object, ...]:
    """Arguments of a build of whole windows of ten frames, all in one split."""
    common = ("--size", SIZE, "--num_frames", 10, "--splits", "train=1")
    return ("videos", "--input", sources[0].parents[1], *common, *flags)


def both(over: list[Spent], under: list[Spent]) -> tuple[float, float]:
    """Ratios by the wall clock and of CPU time."""
    return ratio(over, under), ratio(over, under, "cpu")


def warm_up(bench: Bench) -> None:
    """A build that imports everything and starts the decoders, so that none is timed that does."""
    sources = bench.shorts(bench.clip("240p"), 1.0, 16)
    build(*videos(sources, "--shards", 16), output=bench.output, workers=bench.workers)


def end_to_end(bench: Bench) -> None:
    """Every frame of 720p and 540p H.264 to a JPEG of 180x320."""
    for clip in bench.clips("720p", "540p"):
        sources = bench.sources(clip, 120 * bench.part, 8)
        total = 8 * count_frames(sources[0])
        print(f"{describe(clip)}; {len(sources)} videos, {total:,} frames")
        ffmpeg, quality = find_ffmpeg(), OPTIONS.jpeg_quality
        sides = {}
        if ffmpeg is None:
            print("  there is no ffmpeg program here: that comparison is left out")
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
            OURS: partial(build, *command, output=bench.output, workers=bench.workers),
            BARE: partial(bench.bare.decode_scale_encode, sources, bench.folder, quality),
            DECODE: partial(bench.bare.decode_only, sources),
        }
        spent = interleave(sides, bench.repeats, bench.clear)
        show(spent, total, "frames")
        name = clip.stem
        value, cpu = both(spent[BARE], spent[OURS])
        bench.find(
            f"{name}: build / the same in bare processes",
            f"{value:.2f} times as fast, {cpu:.2f} by CPU time",
            "at least 0.95",
            value >= 0.95,
        )
        value = ratio(spent[DECODE], spent[OURS])
        bench.find(f"{name}: build / decoding alone", f"{value:.2f} times as fast")
        if ffmpeg is not None:
            value, cpu = both(spent[FFMPEG], spent[OURS])
            bench.find(
                f"{name}: build / ffmpeg",
                f"{value:.2f} times as fast, {cpu:.2f} by CPU time",
                "at least 1.15",
                value >= 1.15,
            )
            limit = ratio(spent[FFMPEG], spent[DECODE])
            bench.find(f"{name}: limit, decoding alone / ffmpeg", f"{limit:.2f} times as fast")


def skipping(bench: Bench) -> None:
    """One frame in five of video with B-frames, beside decoding every frame."""
    clip = bench.clip("720p_b")
    sources = bench.sources(clip, 120 * bench.part, 8)
    total = 8 * count_frames(sources[0])
    print(f"{describe(clip)}; {len(sources)} videos, {total:,} frames")
    command = videos(sources, "--shards", 8, "--frame_rate", 5)
    sides = {
        f"{OURS} --frame_rate 5": partial(
            build, *command, output=bench.output, workers=bench.workers
        ),
        DECODE: partial(bench.bare.decode_only, sources),
    }
    spent = interleave(sides, bench.repeats, bench.clear)
    show(spent, total, "frames")
    ours = spent[f"{OURS} --frame_rate 5"]
    value, cpu = both(spent[DECODE], ours)
    bench.find(
        "one frame in five / decoding every frame",
        f"{value:.2f} times as fast, {cpu:.2f} by CPU time",
        "at least 1.2",
        value >= 1.2,
    )


def overlap(bench: Bench) -> None:
    """Sequences of 8 frames that begin at every frame, beside those that share none."""
    clip = bench.clip("720p")
    sources = bench.sources(clip, 80 * bench.part, 8)
    total = 8 * count_frames(sources[0])
    print(f"{describe(clip)}; {len(sources)} videos, {total:,} frames")
    sides = {}
    for stride in (1, 8):
        command = (*videos(sources, "--shards", 8, "--stride", stride), "--num_frames", 8)
        sides[f"{OURS} --stride {stride}"] = partial(
            build, *command, output=bench.output, workers=bench.workers
        )
    spent = interleave(sides, bench.repeats, bench.clear)
    show(spent, total, "frames")
    every, eighth = spent.values()
    value, cpu = both(every, eighth)
    bench.find(
        "8 frames: stride 1 / stride 8",
        f"{value:.2f} times the time, {cpu:.2f} of CPU",
        "at most 1.35",
        value <= 1.35,
    )


def short_clips(bench: Bench) -> None:
    """Many clips of 2 s, beside bare processes that go through the same files."""
    clip = bench.clip("240p")
    sources = bench.shorts(clip, 2.0, bench.count(1000, least=4))
    total = len(sources) * count_frames(sources[0])
    print(f"{describe(clip)}; {len(sources)} clips, {total:,} frames")
    sides = {
        OURS: partial(build, *videos(sources), output=bench.output, workers=bench.workers),
        BARE: partial(bench.bare.decode_scale_encode, sources, bench.folder),
    }
    spent = interleave(sides, bench.repeats, bench.clear)
    show(spent, total, "frames")
    value, cpu = both(spent[BARE], spent[OURS])
    over = statistics.median(
        ours.cpu - bare.cpu for ours, bare in zip(*spent.values(), strict=True)
    )
    bench.find(
        f"{len(sources)} clips / the same in bare processes",
        f"{value:.2f} times as fast, {cpu:.2f} by CPU time ({1000 * over / len(sources):+.1f} ms a clip)",
        "at least 0.8",
        value >= 0.8,
    )


def long_video(bench: Bench) -> None:
    """One long video by two workers, beside one."""
    clip = bench.clip("360p")
    seconds = 3600 * bench.part
    sources = bench.sources(clip, seconds, 1)
    total = count_frames(sources[0])
    print(f"{describe(clip)}; one video of {total / 25 / 60:.1f} min, {total:,} frames")
    # With a part of the footage, segments and shards are as many as there would be of all.
    cuts = ("--segment_length", 600 * bench.part, "--shard_size", round(bench.part * 2**27))
    command = videos(sources, *cuts)
    sides = {
        f"{OURS} --workers {workers}": partial(
            build, *command, output=bench.output, workers=workers
        )
        for workers in (1, 2)
    }
    spent = interleave(sides, bench.repeats, bench.clear)
    show(spent, total, "frames")
    one, two = spent.values()
    value = ratio(one, two)
    bench.find(
        "one long video: 2 workers / 1",
        f"{value:.2f} times as fast",
        "at least 1.8",
        value >= 1.8,
    )


def frame_folders(bench: Bench) -> None:
    """Folders of JPEGs that already have the wanted size, beside ``cp -r``."""
    root = bench.new_folder("frames")
    total = _make_frame_folders(root, bench.clip("720p"), bench.count(20, least=2))
    print(f"{len(list(root.iterdir()))} folders of JPEGs, {total / 1e6:,.0f} MB, in the page cache")
    ours, copy = "pipelines dashcam --annotation", "cp -r"
    labels = ("--annotation", "annotation.json", "--label", "speed", "--frame_rate", 25)
    flags = ("--size", SIZE, "--num_frames", 10, "--splits", "train=1", "--shards", 8)
    command = ("dashcam", "--input", root, *labels, *flags)

    sides = {
        ours: partial(build, *command, output=bench.output, workers=bench.workers),
        copy: partial(run_command, ["cp", "-r", root, bench.output]),
    }
    spent = interleave(sides, bench.repeats, bench.clear)
    show(spent, total / 1e6, "MB")
    value = ratio(spent[copy], spent[ours])
    speed = total / 1e6 / statistics.median(each.wall for each in spent[ours])
    bench.find(
        "folders of JPEGs passed through / cp -r",
        f"{value:.2f} times as fast, {speed:,.0f} MB/s",
        "at least 0.7, or 300 MB/s",
        value >= 0.7 or speed >= 300,
    )


def _make_frame_folders(root: Path, clip: Path, count: int) -> int:
    """Writes folders of frames with their annotations; returns the bytes of the frames."""
    converter = FrameConverter()
    files = [frames.encode(scale(converter, frame), OPTIONS) for frame in decode(clip)]
    each = 1000 if count > 2 else 20
    for number in range(count):
        folder = root / f"{number:04d}"
        folder.mkdir()
        (folder / "annotation.json").write_text(json.dumps({"speed": number / 10}))
        for place in range(each):
            (folder / f"{place:05d}.jpg").write_bytes(files[place % len(files)])
    return count * sum(len(files[place % len(files)]) for place in range(each))

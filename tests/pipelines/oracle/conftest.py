"""Footage that is compared with the output of the ffmpeg program.

``pytest tests/pipelines/oracle --footage DIR`` compares every video under DIR; without the option, the clips
in tests/data and clips of every odd kind made on the spot.
"""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.sources.listing import is_video

DATA = Path(__file__).parents[2] / "data"
QUICK = ("demo.gif", "phone_vfr.mp4")  # the others have many frames, or are in their place below
NTSC = Fraction(30_000, 1001)
FIELDS = {"flags": "+ildct+ilme"}
ODD = {
    "variable.mp4": {"times": [0, 10, 50, 55, 100, 300, 333, *range(400, 2000, 83)]},
    "b_frames.mp4": {"b_frames": 3},
    "ntsc.mkv": {"rate": NTSC, "b_frames": 2},
    "turned_90.mp4": {"rotation": 90},
    "turned_180.mp4": {"rotation": 180},
    "turned_270.mp4": {"rotation": 270},
    "wide_pixels.mp4": {"sample_aspect": Fraction(4, 3)},
    "odd_size.avi": {"codec": "mpeg4", "size": (51, 67)},
    "full_range.mp4": {"tags": {"color_range": 2}},
    "bt709.mp4": {"tags": {"colorspace": 1, "color_range": 1}},
    "bt2020.mp4": {"tags": {"colorspace": 9, "color_range": 1}},
    "ten_bits.mp4": {"pix_fmt": "yuv420p10le"},
    "444.mp4": {"pix_fmt": "yuv444p"},
    "gray.mp4": {"pix_fmt": "gray"},
    "interlaced.mp4": {"options": {"x264-params": "interlaced=1"}},
    "interlaced.ts": {"codec": "mpeg2video", "options": FIELDS},
    "hevc.mp4": {"codec": "libx265"},
    "hevc_ten_bits.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mp4": {"codec": "libsvtav1", "size": (64, 96), "options": {"preset": "12"}},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.ts": {"codec": "mpeg2video", "b_frames": 2},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b_frames.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mjpeg.avi": {"codec": "mjpeg"},
    "animation.gif": {"codec": "gif"},
    "raw.h264": {"rate": 20},
    "raw.hevc": {"codec": "libx265"},
    "raw.m2v": {"codec": "mpeg2video"},
    "before_zero.mkv": {"times": range(-200, 1000, 40)},
    "edit_list.mp4": {"b_frames": 2, "times": range(-200, 1000, 40)},
    "late.ts": {"times": range(5000, 6200, 40)},
    "short.mp4": {"frames": 9},
    "one.mp4": {"frames": 1},
}


def pytest_addoption(parser):
    parser.addoption("--footage", metavar="DIR", help="compare the videos under this folder")


def pytest_generate_tests(metafunc):
    if "footage" not in metafunc.fixturenames:
        return
    # The option is not known when pytest was told of another folder to begin with.
    given = metafunc.config.getoption("footage", default=None)
    if given:
        paths = sorted(p for p in Path(given).rglob("*") if p.is_file() and is_video(p.name))
        names = [str(path.relative_to(given)) for path in paths]
    else:
        slow = [path for path in sorted(DATA.iterdir()) if is_video(path.name)]
        slow = [path for path in slow if path.name not in QUICK]
        paths = [DATA / name for name in QUICK] + list(ODD)
        paths += [pytest.param(path, marks=pytest.mark.slow) for path in slow]
        names = [*QUICK, *ODD, *(path.name for path in slow)]
    metafunc.parametrize("footage", paths, indirect=True, ids=names)


@pytest.fixture
def footage(request, write_video, tmp_path):
    """Path of a video."""
    if request.param in ODD:
        return write_video(tmp_path / request.param, **ODD[request.param])
    return Path(request.param)


@pytest.fixture(scope="session")
def ffmpeg():
    """Path of the program."""
    found = shutil.which("ffmpeg")
    if found is None:
        pytest.skip(
            "no ffmpeg program is installed (apt-get install ffmpeg), and nothing to compare with"
        )
    return found

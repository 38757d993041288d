"""Tests that rendered drives match their description, and that only motion reveals the speed."""

import csv
import dataclasses
import importlib.util
import itertools
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "render_drives.py"


def load_script():
    spec = importlib.util.spec_from_file_location("render_drives", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


rd = load_script()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Three drives of two clips, rendered by the command line."""
    output = tmp_path_factory.mktemp("drives")
    run_script(output)
    return output


def run_script(output, *flags):
    command = [sys.executable, SCRIPT, "--output", output, "--drives", "3", "--seconds", "4"]
    command += ["--size", "48x64", "--frame_rate", "12.5", "--seed", "5", *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def decode(path):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return container.streams.video[0], frames


def test_videos_have_requested_size_rate_and_frames(rendered):
    assert sorted(path.name for path in rendered.iterdir()) == [
        *(f"drive_{index:03d}.mp4" for index in range(3)),
        "manifest.csv",
    ]
    for path in rendered.glob("*.mp4"):
        stream, frames = decode(path)
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == Fraction(25, 2)
        assert [frame.pts * frame.time_base for frame in frames] == [
            Fraction(2, 25) * index for index in range(50)
        ]
        assert {(frame.height, frame.width) for frame in frames} == {(48, 64)}


def test_manifest_lists_every_clip_with_its_speed(rendered):
    with open(rendered / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drives = rd.draw_drives(3, clips=2, size=(48, 64), seed=5)
    assert rows == [
        {
            "path": f"{drive.name}.mp4",
            "start": str(2 * clip),
            "end": str(2 * clip + 2),
            "speed": f"{drive.speeds[clip]:.4f}",
            "group": drive.name,
            "split": drive.split,
        }
        for drive in drives
        for clip in (0, 1)
    ]


def test_write_video_keeps_colours_as_tagged(tmp_path):
    """A flat colour is the same if decoded by its tags; decoded as BT.601, the default of SD, it is not."""
    colour = (30, 120, 200)
    pixels = np.full((48, 64, 3), colour, np.uint8)
    path = tmp_path / "flat.mp4"
    rd.write_video(path, [pixels], size=(48, 64), frame_rate=Fraction(10))
    _, (frame,) = decode(path)
    assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, limited
    y, u, v = (float(plane.mean()) for plane in np.split(frame.to_ndarray().ravel(), [3072, 3840]))
    luma, blue, red = (y - 16) / 219 * 255, (u - 128) / 224 * 255, (v - 128) / 224 * 255
    decoded = (
        luma + 1.5748 * red,
        luma - 0.1873 * blue - 0.4681 * red,
        luma + 1.8556 * blue,
    )
    np.testing.assert_allclose(decoded, colour, atol=3)


def test_render_depends_only_on_seed(rendered, tmp_path):
    run_script(tmp_path / "again")
    run_script(tmp_path / "other", "--seed", "6")
    for path in rendered.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
        assert (tmp_path / "other" / path.name).read_bytes() != path.read_bytes()


@pytest.mark.parametrize("speed", [3.0, 8.0, 15.0])
@pytest.mark.parametrize("surface", rd.SURFACES)
def test_render_moves_ground_at_stated_speed(speed, surface):
    """Measures the speed in the pictures, by phase correlation of bird's-eye views 1/30 s apart."""
    drive = rd.draw_drives(1, clips=1, size=(288, 384), seed=3)[0]
    drive = dataclasses.replace(drive, speeds=(speed,), surface=surface, shadows=0.2)
    frames = itertools.islice(rd.render(drive, Fraction(30)), 9)
    views = [birds_eye_view(frame, drive.camera) for frame in frames]
    moved = [measure_shift(before, after) for before, after in itertools.pairwise(views)]
    assert np.median(moved) * 30 == pytest.approx(speed, rel=0.04)


VIEW_TEXEL = 0.02  # m


def birds_eye_view(frame, camera):
    """Returns the ground 2.8 to 5.8 m ahead and 1.2 m to each side, by the definition of a pinhole camera."""
    ahead, right = np.meshgrid(
        np.arange(5.8, 2.8, -VIEW_TEXEL), np.arange(-1.2, 1.2, VIEW_TEXEL), indexing="ij"
    )
    sin, cos = np.sin(camera.pitch), np.cos(camera.pitch)
    depth = ahead * cos + camera.height * sin  # along the optical axis
    below = camera.height * cos - ahead * sin
    focal = camera.focal * camera.size[1]
    columns = (right - camera.offset) / depth * focal + (camera.size[1] - 1) / 2
    rows = below / depth * focal + (camera.size[0] - 1) / 2
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    view = cv2.remap(grey, columns.astype("f4"), rows.astype("f4"), cv2.INTER_LINEAR)
    return view.astype(np.float32)


def measure_shift(before, after):
    """Returns the metres by which the ground came nearer."""
    window = cv2.createHanningWindow(before.shape[::-1], cv2.CV_32F)
    (_, shift), _ = cv2.phaseCorrelate(before, after, window)
    return shift * VIEW_TEXEL


def test_frame_does_not_depend_on_speed():
    drives = rd.draw_drives(2, clips=1, size=(48, 64), seed=1)
    for drive in drives:
        slow, fast = (dataclasses.replace(drive, speeds=(speed,)) for speed in (3.0, 15.0))
        slow_frames = list(rd.render(slow, Fraction(10)))
        fast_frames = list(rd.render(fast, Fraction(10)))
        np.testing.assert_array_equal(slow_frames[0], fast_frames[0])
        # At the same position, the pictures are the same for each speed.
        np.testing.assert_array_equal(slow_frames[10], fast_frames[2])
        assert (slow_frames[1] != fast_frames[1]).any()


def test_draw_drives_speed_is_independent_of_other_properties():
    drives = rd.draw_drives(2000, clips=1, size=(96, 128), seed=0)
    speed = np.array([drive.speeds[0] for drive in drives])
    others = {
        "order": np.arange(2000),
        "start": [drive.start for drive in drives],
        "mark": [drive.mark for drive in drives],
        "exposure": [drive.exposure for drive in drives],
        "shadows": [drive.shadows for drive in drives],
        **{
            name: [getattr(drive.camera, name) for drive in drives]
            for name in ("height", "pitch", "focal", "offset")
        },
        **{name: [drive.surface == name for drive in drives] for name in rd.SURFACES},
        **{name: [drive.split == name for drive in drives] for name in rd.SPLITS},
    }
    for name, values in others.items():
        correlation = np.corrcoef(speed, np.asarray(values, float))[0, 1]
        assert abs(correlation) < 4 / np.sqrt(2000), name


def test_first_frames_are_uncorrelated_with_speed(monkeypatch):
    """Checks brightness, contrast and detail of rendered first frames, not only drawn parameters."""
    monkeypatch.setattr(rd, "TEXEL", 0.2)  # sixteen times as fast
    drives = rd.draw_drives(100, clips=1, size=(32, 48), seed=0)
    speed = [drive.speeds[0] for drive in drives]
    frames = [rd.Renderer(drive).frame(drive.place(0)) for drive in drives]
    for measure in (
        np.mean,
        np.std,
        lambda frame: np.abs(np.diff(frame.astype(int), axis=0)).mean(),
    ):
        correlation = np.corrcoef(speed, [measure(frame) for frame in frames])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(100)


def test_draw_drives_splits_have_equal_speed_distribution():
    drives = rd.draw_drives(60, clips=8, size=(96, 128), seed=2)
    counts = {split: sum(drive.split == split for drive in drives) for split in rd.SPLITS}
    assert counts["train"] == pytest.approx(42, abs=2)
    assert counts["validation"] == pytest.approx(9, abs=2)
    assert counts["test"] == pytest.approx(9, abs=2)
    for split in rd.SPLITS:
        speeds = [speed for drive in drives if drive.split == split for speed in drive.speeds]
        assert np.mean(speeds) == pytest.approx(9, abs=0.2)
        assert np.std(speeds) == pytest.approx(12 / np.sqrt(12), rel=0.05)
        assert 3 <= min(speeds) < max(speeds) <= 15


def test_markings_do_not_alias():
    """At the demo's 10 frames/s, the fastest drive advances by much less than half the period of marks."""
    assert rd.SPEEDS[1] / 10 < rd.MARKING_PERIOD / 3
    assert rd.TILE % rd.MARKING_PERIOD == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "48"], "HEIGHTxWIDTH"),
        (["--size", "48x65"], "even"),
        (["--seconds", "3"], "multiple of 2"),
        (["--drives", "0"], "above 0"),
        (["--frame_rate", "1/0"], "above 0"),
    ],
)
def test_main_explains_wrong_flags(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        rd.main(["--output", str(tmp_path), *flags])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

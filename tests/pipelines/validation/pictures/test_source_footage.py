"""`pipelines validate --sources` reads footage as the build did: the same stream, region and masks."""

import av
import numpy as np
import pytest

from tests.processes import run_python


def write_two_streams(path):
    """Two videos in a file, with other pictures; the first is the default one."""
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("libx264", rate=10) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for place, stream in enumerate(streams):
            for number in range(16):
                pixels = np.zeros((64, 96, 3), np.uint8)
                top, left = 4 * number % 60, 10 + 40 * place
                pixels[top : top + 12, left : left + 30] = 255 - 60 * place
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = number
                output.mux(stream.encode(frame))
            output.mux(stream.encode())


@pytest.mark.slow
def test_sources_are_compared_with_the_stream_and_region_of_the_build(tmp_path):
    (tmp_path / "in/x").mkdir(parents=True)
    write_two_streams(tmp_path / "in/x/a.mkv")
    built = run_python(
        *("-m", "pipelines", "videos", "--input", tmp_path / "in", "--output", tmp_path / "out"),
        *("--num_frames", "4", "--size", "32x96", "--splits", "train=1", "--video_stream", "1"),
        *("--crop_region", "0,0.5,1,1", "--mask", "0.6,0.5,0.8,1"),
    )
    assert built.returncode == 0, built.stderr
    done = run_python(
        *("-m", "pipelines", "validate", "--tfrecords", tmp_path / "out"),
        *("--sources", tmp_path / "in"),
    )
    assert done.returncode == 0, done.stdout
    assert "unlike_source" not in done.stdout
    assert "0 errors" in done.stdout

"""Regions and masks beside the same cuts by plain indices, and in records, from videos and from files."""

import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.images.frames import resize
from pipelines.images.regions import RegionError, cut_out, find_box
from pipelines.options.dataset import ImageOptions
from tests.processes import run_python

sides = st.integers(1, 40)
ends = st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True).map(sorted)


@given(sides, sides, ends, ends)
def test_a_box_holds_the_pixels_whose_centres_lie_in_the_fractions(height, width, across, down):
    text = f"{across[0] / 100},{down[0] / 100},{across[1] / 100},{down[1] / 100}"

    def inside(size, limits):  # a pixel belongs to the side on which its centre lies
        low, high = (Fraction(n, 100) * size for n in limits)
        return [i for i in range(size) if low < i + Fraction(1, 2) <= high]

    columns, rows = inside(width, across), inside(height, down)
    if not columns or not rows:
        with pytest.raises(RegionError, match="holds no pixel"):
            find_box(text, height, width)
        return
    box = find_box(text, height, width)
    if all(size * n % 100 != 50 for size, ns in ((width, across), (height, down)) for n in ns):
        assert (list(range(box.left, box.right)), list(range(box.top, box.bottom))) == (
            columns,
            rows,
        )


def test_masks_are_black_and_lie_in_the_whole_picture():
    pixels = np.random.default_rng(0).integers(1, 256, (20, 40, 3), np.uint8)
    expected = pixels.copy()
    expected[18:, :] = 0
    expected[2:4, 10:30] = 0
    found = cut_out(pixels, "0,0.5,1,1", ("0,0.9,1,1", "10,2,30,4"))
    np.testing.assert_array_equal(found, expected[10:])
    assert pixels.min() > 0  # the picture itself stays as it was


@pytest.mark.parametrize("text", ["0,0,41,20", "0,0,40,21", "0,0,0.001,1"])
def test_rectangles_that_a_picture_does_not_have_are_errors(text):
    with pytest.raises(RegionError, match="40x20"):
        find_box(text, 20, 40)


@pytest.mark.parametrize(
    "text", ["", "0,0,1", "0,0,0,1", "0.5,0,0.2,1", "-1,0,5,5", "a,0,1,1", "0,0,9.5,9"]
)
@pytest.mark.parametrize("flag", ["mask", "crop_region"])
def test_other_texts_are_refused(flag, text):
    with pytest.raises(UsageError, match=f"--{flag} must be left,top,right,bottom"):
        ImageOptions(**{flag: (text,) if flag == "mask" else text})


def test_records_hold_the_region(write_video, tmp_path):
    (tmp_path / "in/run").mkdir(parents=True)
    write_video(tmp_path / "in/run/a.mp4", frames=8, size=(96, 128))
    flags = (
        "--crop_region",
        "0.25,0,1,0.5",
        "--mask",
        "0.5,0.25,0.75,0.5",
        "--mask",
        "0,0,0.3,0.1",
    )
    done = run_python(
        *("-m", "pipelines", "videos", "--input", tmp_path / "in", "--output", tmp_path / "out"),
        *("--num_frames", "4", "--size", "48x96", "--image_format", "png", "--splits", "train=1"),
        *flags,
    )
    assert done.returncode == 0, done.stderr
    options = json.loads((tmp_path / "out/dataset_info.json").read_text())["options"]
    assert (options["crop_region"], options["mask"]) == (
        "0.25,0,1,0.5",
        ["0.5,0.25,0.75,0.5", "0,0,0.3,0.1"],
    )
    import av
    import tensorflow as tf

    with av.open(str(tmp_path / "in/run/a.mp4")) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    stored = []
    for shard in sorted((tmp_path / "out").glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
            lists = tf.train.SequenceExample.FromString(record).feature_lists.feature_list
            stored += [step.bytes_list.value[0] for step in lists["image/encoded"].feature]
    assert len(stored) == 8
    for pixels, png in zip(whole, stored, strict=True):
        pixels[24:48, 64:96] = 0
        pixels[:10, :38] = 0
        found = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        assert np.abs(found.astype(int) - pixels[:48, 32:]).mean() < 2
        assert found[24:48, 32:64].max() == 0


def test_files_of_the_wanted_size_are_not_stored_as_they_are(barcode):
    options = ImageOptions(size=(48, 64), mask=("0,0,1,0.5",))
    found = resize(barcode(5), options)
    assert found[:24].max() == 0
    np.testing.assert_array_equal(found[24:], barcode(5)[24:])

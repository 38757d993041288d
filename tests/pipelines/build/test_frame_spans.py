"""Clips that a manifest gives in frames hold exactly those frames, whatever the times of the footage."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pipelines import build_videos
from pipelines.errors import UserError

UNEVEN = [0, 10, 50, 55, 100, 300, 333, *range(400, 1500, 83)]
CLIPS = {
    "ntsc.mp4": {"frames": 40, "rate": Fraction(30000, 1001), "b_frames": 2},
    "rounded.webm": {"frames": 40, "codec": "libvpx-vp9", "rate": Fraction(30000, 1001)},
    "uneven.mkv": {"times": UNEVEN, "codec": "mpeg4", "b_frames": 2},
    "late.mp4": {"times": range(5003, 6603, 40), "b_frames": 2},
    "raw.h264": {"frames": 40},
}
SPANS = [(0, 4), (3, 7), (4, 5), (10, 16), (13, None)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_video):
    folder = tmp_path_factory.mktemp("clips")
    for name, form in CLIPS.items():
        write_video(folder / name, **form)
    return folder


def read_records(output):
    """Yields the source, the class and the encoded frames of each record, as TensorFlow parses them."""
    tf = pytest.importorskip("tensorflow")
    text = tf.io.FixedLenFeature([], tf.string)
    context = {"clip/media_id": text, "clip/label/string": text}
    context["image/valid_frames"] = tf.io.FixedLenFeature([], tf.int64)
    steps = {"image/encoded": tf.io.FixedLenSequenceFeature([], tf.string)}
    for data in tf.data.TFRecordDataset(sorted(map(str, output.glob("*.tfrecord")))):
        fields, lists = tf.io.parse_single_sequence_example(data, context, steps)
        images = lists["image/encoded"].numpy()[: fields["image/valid_frames"].numpy()]
        texts = (fields[key].numpy().decode() for key in ("clip/media_id", "clip/label/string"))
        yield *texts, list(images)


@pytest.mark.parametrize("rate", [None, Fraction(30000, 1001)])
def test_span_in_frames_gives_exactly_these_frames(
    folder, tmp_path, decode_image, read_barcode, rate
) -> None:
    names = [name for name in CLIPS if rate is None or name in ("ntsc.mp4", "rounded.webm")]
    lines = ["file,class,start_frame,end_frame"]
    lines += [f"{n},x,{first},{'' if end is None else end}" for n in names for first, end in SPANS]
    (folder / "list.csv").write_text("\n".join(lines))
    build_videos(
        input=str(folder / "list.csv"), output=str(tmp_path / "out"), num_frames=40,
        frame_rate=rate, short_clips="pad", splits="train=1", size="48x64", workers=2,
    )  # fmt: skip
    found = {
        source: [read_barcode(decode_image(image)) for image in images]
        for source, label, images in read_records(tmp_path / "out")
        if label == "x"
    }
    for name in names:
        count = len(CLIPS[name].get("times", range(40)))
        for first, end in SPANS:
            key = f"{name}#t=frame:{first},{'' if end is None else end}".rstrip(",")
            assert found[key] == list(range(first, count if end is None else end)), key


def test_span_beyond_the_file_fails_alone(folder, tmp_path) -> None:
    (folder / "l.csv").write_text(
        "path,label,first_frame,last_frame\nntsc.mp4,x,36,39\nntsc.mp4,x,36,40\nntsc.mp4,x,40,\n"
    )
    info = build_videos(
        input=str(folder / "l.csv"), output=str(tmp_path / "out"), num_frames=4, workers=1,
        max_failure_rate=0.9, splits="train=1",
    )  # fmt: skip
    assert [shard.records for shard in info.splits["train"].shards] == [1]
    lines = (tmp_path / "out/failures.jsonl").read_text().splitlines()
    assert ["the file ends before frame 40" in line for line in lines] == [True, True]


def test_split_by_time_refuses_spans_in_frames(folder, tmp_path) -> None:
    (folder / "l.csv").write_text("path,label,start_frame\nntsc.mp4,x,3\n")
    with pytest.raises(
        UserError, match=r"cannot divide 'ntsc.mp4#t=frame:3', whose span is in frames"
    ):
        build_videos(
            input=str(folder / "l.csv"), output=str(tmp_path / "out"), num_frames=4,
            split_by="time", splits="train=.5,test=.5",
        )  # fmt: skip

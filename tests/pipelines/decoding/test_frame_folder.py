"""Folders of frames as footage: order, holes, damage, sizes, and files passed on as they are."""

from __future__ import annotations

import gc
import math
import struct
import weakref
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.decoding import frame_folder
from pipelines.decoding.frame_folder import FrameFolder
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.decoding.segments import build_segment
from pipelines.images.headers import decode_rgb
from pipelines.images.pixel_sums import is_sampled
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from tfrecords_schema.examples import decode_record
from tfrecords_schema.spec import LabelSpec, SequenceSpec

RATE = Fraction(20)
SIZE = (24, 32)
IMAGE = ImageOptions(size=(SIZE[0], SIZE[1]))


def picture(value, size=SIZE):
    """RGB: flat, and red above green above blue so that an exchange of channels shows."""
    return np.full((*size, 3), (value, value // 2, value // 4), np.uint8)


def encode(pixels, extension=".jpg"):
    ordered = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(extension, ordered)[1].tobytes()


def oriented(data, orientation):
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    payload = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def fill(folder: Path, frames=range(1, 9), name="{:03d}.jpg") -> Path:
    """Frame k is a flat picture of level 10 k."""
    folder.mkdir(exist_ok=True)
    for frame in frames:
        path = folder / name.format(frame)
        path.write_bytes(encode(picture(10 * frame), path.suffix))
    return folder


def opened(folder, **options) -> FrameFolder:
    options = {"on_progress": lambda: None, "image": IMAGE, **options}
    sampling = SamplingOptions(frame_rate=RATE, frame_times=options.pop("frame_times", "rate"))
    return FrameFolder(str(folder), sampling, **options)


def read(footage, **where):
    """(presentation time, rank, after break, level) of each frame."""
    return [
        (
            frame.pts,
            frame.rank,
            frame.after_break,
            round(float(frame.picture.to_rgb()[..., 0].mean())),
        )
        for frame in footage.frames(**where)
    ]


class TestReading:
    def test_frames_are_files_in_natural_order(self, tmp_path) -> None:
        calls = []
        fill(tmp_path, range(1, 13), "{}.png")
        for other in ("notes.txt", ".13.png"):
            (tmp_path / other).write_bytes(b"no picture")
        (tmp_path / "14.png").mkdir()
        footage = opened(tmp_path, on_progress=lambda: calls.append(1))
        assert calls == []
        assert read(footage) == [(k, k, False, 10 * (k + 1)) for k in range(12)]
        assert len(calls) == 12
        assert footage.time_base == Fraction(1, 20)
        assert footage.declared_seconds == 12 / 20
        assert (footage.tolerance, footage.cuttable) == (0, True)
        assert (footage.breaks, footage.unordered, footage.truncated) == (0, 0, None)
        assert footage.first_pts() == 0

    @pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp", ".tif", ".JPEG"])
    def test_to_rgb_returns_rgb_for_each_format(self, tmp_path, extension) -> None:
        fill(tmp_path, [20], "{}" + extension)
        (frame,) = opened(tmp_path).frames()
        pixels = frame.picture.to_rgb()
        assert (pixels.shape, pixels.dtype) == ((*SIZE, 3), np.uint8)
        assert np.abs(pixels.astype(int) - picture(200)).max() <= 4
        assert frame.picture.pixel_aspect == 1

    def test_to_rgb_converts_gray(self, tmp_path) -> None:
        (tmp_path / "1.png").write_bytes(encode(np.full(SIZE, 99, np.uint8), ".png"))
        footage = opened(tmp_path)
        (frame,) = footage.frames()
        assert (frame.picture.to_rgb() == 99).all()

    def test_to_rgb_applies_orientation(self, tmp_path) -> None:
        pixels = picture(20)
        pixels[:12, :16] = 240
        (tmp_path / "1.jpg").write_bytes(oriented(encode(pixels), 6))
        (tmp_path / "2.jpg").write_bytes(encode(np.ascontiguousarray(np.rot90(pixels, -1))))
        footage = opened(tmp_path)
        turned, plain = (frame.picture.to_rgb().astype(int) for frame in footage.frames())
        assert turned.shape == plain.shape == (32, 24, 3)
        assert np.abs(turned - plain).mean() < 3
        assert footage.truncated is None

    def test_frames_start_anywhere(self, tmp_path) -> None:
        fill(tmp_path, [1, 2, 3, 4, 6, 7, 8])
        whole = read(opened(tmp_path))
        assert [pts for pts, *_ in whole] == [0, 1, 2, 3, 5, 6, 7]
        for near, index in ((-5, 0), (0, 0), (2, 2), (4, 3), (5, 4), (7, 6), (99, 6)):
            footage = opened(tmp_path)
            found = read(footage, near=near)
            assert [(pts, value) for pts, _, _, value in found] == [
                (pts, value) for pts, _, _, value in whole[index:]
            ]
            assert [rank for _, rank, _, _ in found] == list(range(len(found)))
            assert not found[0][2]
            assert footage.breaks == (index < 4)
        assert read(opened(tmp_path), near=6, exactly=True) == read(opened(tmp_path), near=6)

    def test_packet_times_read_no_file(self, tmp_path, monkeypatch) -> None:
        fill(tmp_path, [10, 11, 12, 14])
        monkeypatch.setattr(frame_folder, "read_header", None)
        footage = opened(tmp_path)
        times, keys = footage.packet_times()
        assert times.dtype == np.int64
        assert times.tolist() == [0, 1, 2, 4]
        assert keys.tolist() == [True] * 4
        assert footage.declared_seconds == 5 / 20

    def test_frames_keep_at_most_two_pictures_in_memory(self, tmp_path) -> None:
        fill(tmp_path)
        held, most = weakref.WeakSet(), 0
        for frame in opened(tmp_path).frames():
            held.add(frame.picture)
            gc.collect()
            most = max(most, len(held))
        assert most <= 2


class TestOpening:
    def test_open_missing_folder_fails(self, tmp_path) -> None:
        with pytest.raises(DecodingFailure) as caught:
            opened(tmp_path / "none")
        assert (caught.value.stage, caught.value.reason) == ("open", "No such file or directory")

    def test_open_folder_without_images_fails(self, tmp_path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(DecodingFailure) as caught:
            opened(tmp_path)
        assert caught.value.stage == "open"
        assert caught.value.reason == "the folder contains no file with the extension of an image"


class TestMissingFrames:
    def test_missing_file_is_a_break(self, tmp_path) -> None:
        fill(tmp_path, [1, 2, 3, 5, 6, 9, 10])
        footage = opened(tmp_path)
        assert [frame[:3] for frame in read(footage)] == [
            *((0, 0, False), (1, 1, False), (2, 2, False)),
            *((4, 3, True), (5, 4, False), (8, 5, True), (9, 6, False)),
        ]
        assert footage.breaks == 2
        assert footage.truncated == "frame 004 is missing between 003.jpg and 005.jpg"

    def test_missing_file_is_counted_when_reading_reaches_it(self, tmp_path) -> None:
        fill(tmp_path, [1, 2, 3, 5, 6])
        footage = opened(tmp_path)
        frames = footage.frames()
        for _ in range(3):
            next(frames)
        assert (footage.breaks, footage.truncated) == (0, None)
        next(frames)
        assert footage.breaks == 1

    def test_damaged_files_are_a_break(self, tmp_path) -> None:
        fill(tmp_path)
        data = (tmp_path / "005.jpg").read_bytes()
        (tmp_path / "005.jpg").write_bytes(data[:-10])
        (tmp_path / "006.jpg").write_bytes(b"")
        footage = opened(tmp_path)
        assert [frame[:3] for frame in read(footage)] == [
            *((0, 0, False), (1, 1, False), (2, 2, False), (3, 3, False)),
            *((6, 6, True), (7, 7, False)),
        ]
        assert footage.breaks == 1
        assert footage.truncated == (
            "005.jpg does not decode: it is a truncated JPEG file: it has no end marker"
        )

    @pytest.mark.parametrize("damaged", [[1], [1, 2], [8], [3, 8], range(1, 9)])
    def test_damaged_files_are_a_break_anywhere(self, tmp_path, damaged) -> None:
        fill(tmp_path)
        for frame in damaged:
            (tmp_path / f"{frame:03d}.jpg").write_bytes(b"no picture")
        footage = opened(tmp_path)
        found = read(footage)
        assert [pts for pts, *_ in found] == [k for k in range(8) if k + 1 not in damaged]
        # Before the first frame there is nothing to break.
        assert [pts for pts, _, after_break, _ in found if after_break] == [3] * (damaged == [3, 8])
        assert footage.breaks == (2 if damaged == [3, 8] else 1)
        assert footage.truncated == (
            f"{damaged[0]:03d}.jpg does not decode: it is not a JPEG, PNG, BMP, WebP or TIFF file "
            "(10 bytes)"
        )
        assert footage.first_pts() == 0

    def test_missing_and_damaged_neighbors_are_one_break(self, tmp_path) -> None:
        fill(tmp_path, [1, 2, 3, 4, 6, 7, 8])
        (tmp_path / "004.jpg").write_bytes(b"")
        footage = opened(tmp_path)
        assert [pts for pts, _, after_break, _ in read(footage) if after_break] == [5]
        assert footage.breaks == 1

    def test_unreadable_files_are_a_break(self, tmp_path) -> None:
        fill(tmp_path)
        footage = opened(tmp_path)
        (tmp_path / "002.jpg").unlink()
        assert len(read(footage)) == 7
        assert footage.truncated == (
            "002.jpg does not decode: it cannot be read: No such file or directory"
        )

    @given(damage=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=5))
    def test_random_damage_raises_only_decoding_failure(self, tmp_path_factory, damage):
        folder = fill(tmp_path_factory.mktemp("frames"), range(1, 4))
        data = bytearray((folder / "002.jpg").read_bytes())
        for place, value in damage:
            data[place % len(data)] = value
        (folder / "002.jpg").write_bytes(data)
        try:
            found = read(opened(folder))
        except DecodingFailure:  # another size
            return
        assert [pts for pts, *_ in found] in ([0, 1, 2], [0, 2])


class TestPassingOn:
    """Files that are stored as they are and decoded only if necessary."""

    @pytest.fixture
    def decoded(self, monkeypatch) -> list[int]:
        """Sizes of the files that are decoded."""
        sizes: list[int] = []

        def decode_and_note(data, header):
            sizes.append(len(data))
            return decode_rgb(data, header)

        monkeypatch.setattr(frame_folder, "decode_rgb", decode_and_note)
        return sizes

    def test_only_sampled_files_are_decoded(self, tmp_path, decoded) -> None:
        fill(tmp_path, range(1, 26))

        def decoded_slots(**where):
            frames = opened(tmp_path).frames(**where)
            return [frame.pts for frame in frames if frame.picture.pixels is not None]

        whole = decoded_slots()
        assert whole == [slot for slot in range(25) if is_sampled(slot)] == [4]
        assert len(decoded) == 1
        assert decoded_slots(near=3) == whole

    @pytest.mark.parametrize(
        "image", [None, ImageOptions(size=(24, 33)), replace(IMAGE, image_format="png")]
    )
    def test_files_that_do_not_match_options_are_decoded(self, tmp_path, decoded, image) -> None:
        fill(tmp_path)
        assert len(list(opened(tmp_path, image=image).frames())) == len(decoded) == 8

    def test_unusual_files_are_decoded(self, tmp_path, decoded) -> None:
        progressive = cv2.imencode(".jpg", picture(9), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
        (tmp_path / "1.jpg").write_bytes(progressive.tobytes())
        (frame,) = opened(tmp_path).frames()
        assert (frame.picture.data, decoded) == (progressive.tobytes(), [len(progressive)])

    def test_to_rgb_decodes_on_demand(self, tmp_path, decoded) -> None:
        fill(tmp_path, [20])
        footage = opened(tmp_path)
        (frame,) = footage.frames()
        assert decoded == []
        assert np.abs(frame.picture.to_rgb().astype(int) - picture(200)).max() <= 4
        assert frame.picture.to_scaled(IMAGE).shape == (*SIZE, 3)

    @given(
        place=st.integers(0, 4000),
        kept=st.integers(-600, 4000),
        patch=st.one_of(st.binary(max_size=40), st.integers(0, 600).map(bytes)),
    )
    def test_damage_is_a_gap_wherever_a_full_decode_fails(
        self, tmp_path_factory, place, kept, patch
    ) -> None:
        folder = fill(tmp_path_factory.mktemp("frames"), range(1, 4))
        data = (folder / "002.jpg").read_bytes()
        place %= len(data)
        damaged = data[:place] + patch + data[max(0, place + kept) :]
        (folder / "002.jpg").write_bytes(damaged)
        outcomes = []
        for image in (IMAGE, None):
            footage = opened(folder, image=image)
            try:
                frames = [frame.picture.data for frame in footage.frames()]
            except DecodingFailure as failure:  # another size
                frames = failure.reason
            outcomes.append((frames, footage.truncated, footage.breaks))
        assert outcomes[0] == outcomes[1]


class TestRecordsOfFolders:
    """Stored files reach the records and the statistics."""

    def build(self, folder, *, first_slot=0, end_slot=None):
        source = Source(
            id="a", path=str(folder), data_path="a", group="a", kind="frames", values=(1.0,)
        )
        request = BuildRequest(
            segment=Segment(source=source, first_slot=first_slot, end_slot=end_slot),
            spec=SequenceSpec(
                num_frames=4,
                image=IMAGE.spec,
                label=LabelSpec(task="regression", target_names=("v",)),
            ),
            dataset_name="d",
            sampling=SamplingOptions(num_frames=4, stride=4, frame_rate=RATE),
            image=IMAGE,
        )
        records: list[bytes] = []
        result = build_segment(request, records.append, lambda: None)
        return [decode_record(data, request.spec) for data in records], result

    def test_records_contain_stored_files_and_sampled_statistics(self, tmp_path) -> None:
        levels = [100 + 50 * math.sin(k / 7) for k in range(400)]
        for k, level in enumerate(levels):
            (tmp_path / f"{k:03d}.jpg").write_bytes(encode(picture(round(level))))
        records, result = self.build(tmp_path)
        files = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
        assert [frame for record in records for frame in record.frames] == files
        assert result.pixel_count == 400 * SIZE[0] * SIZE[1]
        assert result.pixel_frames == sum(map(is_sampled, range(400)))
        found = np.array(result.pixel_sum) / result.pixel_count
        expected = np.array([1, 1 / 2, 1 / 4]) * np.mean(levels)
        assert np.abs(found - expected).max() < 10
        spread = math.sqrt(result.pixel_square_sum[0] / result.pixel_count - found[0] ** 2)
        assert spread == pytest.approx(np.std(levels), rel=0.3)

    def test_segments_sum_to_whole_clip(self, tmp_path) -> None:
        fill(tmp_path, range(1, 25))
        _, whole = self.build(tmp_path)
        _, first = self.build(tmp_path, end_slot=12)
        _, second = self.build(tmp_path, first_slot=12)
        assert first.sequences + second.sequences == whole.sequences == 6
        assert first.pixel_count + second.pixel_count == whole.pixel_count
        # Slot 4 is in the sample; of the second segment there is none, so that one is looked at.
        assert (whole.pixel_frames, first.pixel_frames, second.pixel_frames) == (1, 1, 1)
        assert whole.pixel_sum[0] / whole.pixel_count == pytest.approx(50, abs=1)
        assert second.pixel_sum[0] / second.pixel_count == pytest.approx(150, abs=1)

    def test_truncated_file_is_a_gap(self, tmp_path) -> None:
        fill(tmp_path, range(1, 17))
        data = (tmp_path / "006.jpg").read_bytes()
        (tmp_path / "006.jpg").write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
        records, result = self.build(tmp_path)
        assert [record.start_timestamp for record in records] == [0, 400_000, 600_000]
        assert result.breaks == 1
        assert result.truncated == (
            "006.jpg does not decode: it is a truncated JPEG file: it has no end marker"
        )


class TestSizes:
    def test_different_size_fails(self, tmp_path) -> None:
        fill(tmp_path)
        (tmp_path / "005.jpg").write_bytes(encode(picture(9, (48, 64))))
        footage = opened(tmp_path)
        with pytest.raises(DecodingFailure) as caught:
            read(footage)
        failure = caught.value
        assert (failure.stage, failure.seconds) == ("decode", 4 / 20)
        assert failure.reason == (
            "005.jpg has 64x48 pixels, but 001.jpg has 32x24. Convert the images to one size."
        )

    def test_different_size_fails_from_any_start(self, tmp_path) -> None:
        fill(tmp_path, range(3, 9))
        (tmp_path / "001.jpg").write_bytes(b"no picture")
        (tmp_path / "002.jpg").write_bytes(encode(picture(9, (48, 64))))
        with pytest.raises(
            DecodingFailure, match=r"006.jpg has 32x24 pixels, but 002.jpg has 64x48"
        ):
            read(opened(tmp_path), near=5)

    def test_huge_picture_is_not_decoded(self, tmp_path, monkeypatch) -> None:
        fill(tmp_path, range(1, 4), "{}.png")
        data = bytearray((tmp_path / "2.png").read_bytes())
        data[16:24] = struct.pack(">II", 60_000, 60_000)
        (tmp_path / "2.png").write_bytes(data)
        frames = opened(tmp_path).frames()
        next(frames)
        monkeypatch.setattr(frame_folder, "decode_rgb", None)
        with pytest.raises(DecodingFailure) as caught:
            next(frames)
        assert caught.value.stage == "limits"
        assert caught.value.reason == (
            "2.png has 60000x60000 pixels, more than the limit of 67108864"
        )


class TestAsStored:
    """The bytes of a file are used only if it matches the options exactly."""

    def stored(self, folder, data, **options):
        (folder / "1.jpg").write_bytes(data)
        footage = opened(folder)
        (frame,) = footage.frames()
        asked = ImageOptions(**{"size": SIZE, **options})
        return frame.picture.stored_file(asked)

    def test_stored_file_returns_matching_jpeg(self, tmp_path) -> None:
        data = encode(picture(9))
        assert self.stored(tmp_path, data) == data
        assert self.stored(tmp_path, oriented(data, 1)) == oriented(data, 1)
        gray = encode(np.full(SIZE, 9, np.uint8))
        assert self.stored(tmp_path, gray, grayscale=True) == gray

    @pytest.mark.parametrize(
        "options",
        [{"size": (25, 32)}, {"size": (24, 31)}, {"image_format": "png"}, {"grayscale": True}],
    )
    def test_stored_file_is_none_for_other_options(self, tmp_path, options) -> None:
        assert self.stored(tmp_path, encode(picture(9)), **options) is None

    def test_stored_file_is_none_for_other_files(self, tmp_path) -> None:
        data = encode(picture(9))
        assert self.stored(tmp_path, encode(picture(9), ".png")) is None  # whatever its name
        assert self.stored(tmp_path, encode(np.full(SIZE, 9, np.uint8))) is None
        for orientation in (0, 2, 3, 9):
            assert self.stored(tmp_path, oriented(data, orientation)) is None
        turned = encode(picture(9, SIZE[::-1]))
        assert self.stored(tmp_path, oriented(turned, 6)) is None

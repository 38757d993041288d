"""Reading video against plain PyAV, against known colours, and against files that are not what they say."""

import itertools
import os
import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from pipelines.decoding.containers import MAX_PIXELS
from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.video import _created, open_video

X264_PYRAMID = {"x264-params": "b-adapt=0:b-pyramid=2:ref=4"}
X264_OPEN = {"x264-params": "b-adapt=0:b-pyramid=2:ref=4:open-gop=1"}
X265 = "log-level=none:scenecut=0:bframes=3:b-adapt=0:keyint=12:min-keyint=12"

CUTTABLE = {
    "closed.mp4": {},
    "pyramid.mp4": {"b_frames": 3, "options": X264_PYRAMID},
    "open.mp4": {"b_frames": 3, "options": X264_OPEN},
    "open.mkv": {"b_frames": 3, "options": X264_OPEN},
    "fragments.mp4": {
        "b_frames": 3,
        "options": X264_OPEN,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=12"}},
    "mpeg4.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2.mkv": {"codec": "mpeg2video", "b_frames": 2},
    "hevc_open.mp4": {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=1"}},
    "hevc_closed.mkv": {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=0"}},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp9_hidden.webm": {
        "codec": "libvpx-vp9",
        "options": {
            "deadline": "good",
            "cpu-used": "5",
            "auto-alt-ref": "1",
            "lag-in-frames": "16",
        },
    },
    "intra.mp4": {"codec": "mjpeg"},
    "variable.mp4": {"b_frames": 2, "times": [0, 10, 50, 55, 100, 300, 333, *range(400, 2000, 83)]},
    "late.mp4": {"b_frames": 2, "times": range(5000, 6200, 40)},
    "early.mp4": {"b_frames": 2, "times": range(-200, 1000, 40)},
    "early.mkv": {"b_frames": 2, "times": range(-200, 1000, 40)},
}


def read(path, **arguments):
    """Presentation time, rank and bytes of each frame."""
    with open_video(str(path)) as video:
        return [
            (frame.pts, frame.rank, frame.picture.image.to_ndarray().tobytes())
            for frame in video.frames(**arguments)
        ]


def plain(path):
    """Presentation time and bytes of each frame, by PyAV alone."""
    with av.open(str(path)) as container:
        return [(image.pts, image.to_ndarray().tobytes()) for image in container.decode(video=0)]


def rgb(path):
    """The frames as the rest of the package sees them."""
    with open_video(str(path)) as video:
        return [frame.picture.to_rgb() for frame in video.frames()]


def packets(path):
    """Position, size and presentation time of each packet in the file."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size, p.pts) for p in container.demux(video=0) if p.size]


class TestFrames:
    @pytest.mark.parametrize("name", CUTTABLE)
    def test_frames_match_plain_decode(self, name, write_video, tmp_path):
        path = write_video(tmp_path / name, **CUTTABLE[name])
        frames = read(path)
        assert [(pts, data) for pts, _, data in frames] == plain(path)
        assert len(frames) > 20

    @pytest.mark.parametrize("name", ["demo.gif", "demo.webm", "phone_vfr.mp4"])
    def test_frames_of_real_clips_match_plain_decode(self, name, data):
        few = 15 if name == "phone_vfr.mp4" else 200  # 1080p takes its time
        # Compared in step, since a few seconds of pixels are a lot of memory.
        with av.open(str(data / name)) as container, open_video(str(data / name)) as video:
            pairs = itertools.zip_longest(container.decode(video=0), video.frames())
            for count, (image, frame) in enumerate(itertools.islice(pairs, few)):
                assert frame.pts == image.pts
                assert frame.rank == count
                assert not frame.after_break
                assert np.array_equal(frame.picture.image.to_ndarray(), image.to_ndarray())
        assert count == {"demo.gif": 119}.get(name, few - 1)

    def test_webm_keeps_first_time_in_milliseconds(self, data):
        with open_video(str(data / "demo.webm")) as video:
            assert video.tolerance == Fraction(1, 1000)
            times = [frame.pts for frame in itertools.islice(video.frames(), 4)]
        assert times == [7, 49, 90, 132]

    @pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
    def test_avi_with_b_frames_has_regular_times(self, codec, write_video, read_barcode, tmp_path):
        path = write_video(tmp_path / "b.avi", codec=codec, b_frames=2)
        with open_video(str(path)) as video:
            assert not video.cuttable
            assert video.tolerance == 0
            frames = [(f.pts, read_barcode(f.picture.to_rgb())) for f in video.frames()]
            assert video.unordered == 0
        assert [index for _, index in frames] == list(range(30))
        assert {b - a for (a, _), (b, _) in itertools.pairwise(frames)} == {1}

    @pytest.mark.parametrize(
        ("name", "codec"),
        [("a.h264", "libx264"), ("a.hevc", "libx265"), ("a.m2v", "mpeg2video")],
    )
    def test_raw_stream_has_times_from_its_rate(
        self, name, codec, write_video, read_barcode, tmp_path
    ):
        path = write_video(tmp_path / name, codec=codec, b_frames=2, rate=20)
        with open_video(str(path)) as video:
            frames = [
                ((f.pts * video.time_base), read_barcode(f.picture.to_rgb()))
                for f in video.frames()
            ]
        assert [index for _, index in frames] == list(range(30))
        assert {b - a for (a, _), (b, _) in itertools.pairwise(frames)} == {Fraction(1, 20)}

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("a.ts", {"b_frames": 2}),
            ("a.mpg", {"codec": "mpeg1video", "b_frames": 2}),
            ("a.gif", {"codec": "gif"}),
            ("a.flv", {"codec": "flv"}),
            ("a.ivf", {"codec": "libvpx-vp9"}),
            ("a.nut", {"codec": "ffv1"}),
            ("a.mxf", {"codec": "mpeg2video"}),
            ("a.ogg", {"codec": "libvpx"}),
            ("a.wmv", {"codec": "wmv2", "container": "asf"}),
        ],
    )
    def test_frames_of_other_containers(self, name, arguments, write_video, read_barcode, tmp_path):
        path = write_video(tmp_path / name, **arguments)
        assert [read_barcode(pixels) for pixels in rgb(path)] == list(range(30))
        frames = read(path)
        assert [rank for _, rank, _ in frames] == list(range(30))
        assert all(a < b for (a, *_), (b, *_) in itertools.pairwise(frames))

    def test_cover_picture_is_skipped(self, write_video, read_barcode, tmp_path):
        clip = write_video(tmp_path / "clip.mp4")
        cover = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
        path = tmp_path / "cover.mkv"
        with av.open(str(clip)) as source, av.open(str(path), "w") as output:
            output.add_attachment("cover.png", "image/png", cover)
            stream = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
        assert [read_barcode(pixels) for pixels in rgb(path)] == list(range(30))

    def test_first_of_several_video_streams_is_read(self, barcode, read_barcode, tmp_path):
        path = tmp_path / "two.mkv"
        with av.open(str(path), "w") as output:
            streams = [output.add_stream("mpeg4", rate=25) for _ in range(2)]
            for stream in streams:
                stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for index in range(10):
                for offset, stream in ((0, streams[0]), (100, streams[1])):
                    image = av.VideoFrame.from_ndarray(barcode(index + offset), format="rgb24")
                    output.mux(stream.encode(image))
            for stream in streams:
                output.mux(stream.encode(None))
        assert [read_barcode(pixels) for pixels in rgb(path)] == list(range(10))

    def test_file_without_video_fails(self, tmp_path):
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("aac", rate=8000)
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate = 8000
            output.mux(stream.encode(sound))
            output.mux(stream.encode(None))
        with pytest.raises(DecodingFailure, match="no video") as failure, open_video(str(path)):
            pass
        assert failure.value.stage == "open"

    def test_gap_of_a_minute_is_a_break(self, write_video, tmp_path):
        path = write_video(tmp_path / "gap.mp4", times=[0, 40, 60_040, 120_041, 120_081])
        with open_video(str(path)) as video:
            assert [f.after_break for f in video.frames()] == [False, False, False, True, False]
            assert video.breaks == 1

    def test_probe_returns_header(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4", frames=50)
        with open_video(str(path)) as video:
            probe = video.probe()
        assert (probe.duration, probe.frame_rate, probe.cuttable) == (2.0, 25.0, True)

    @pytest.mark.parametrize(
        "name", ["a b.mp4", "a%03d.mp4", "ü.mp4", "a:b.mp4", "-x.mp4", "a#t?.mp4", b"\xff\xfe.mp4"]
    )
    def test_any_file_name_is_accepted(self, name, write_video, tmp_path):
        clip = write_video(tmp_path / "clip.mp4", frames=3)
        path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
        os.rename(clip, path)
        assert len(read(os.fsdecode(path))) == 3


class TestSeeking:
    @pytest.mark.parametrize("name", CUTTABLE)
    def test_frames_near_any_time_equal_tail_of_whole(self, name, write_video, tmp_path):
        path = write_video(tmp_path / name, **CUTTABLE[name])
        whole = read(path)
        begun = set()
        for target in sorted({pts + d for pts, *_ in whole for d in (-1, 0, 1)}):
            tail = read(path, near=target)
            skipped = len(whole) - len(tail)
            begun.add(skipped)
            assert [(pts, data) for pts, _, data in tail] == [
                (pts, data) for pts, _, data in whole[skipped:]
            ]
            assert [rank for _, rank, _ in tail] == list(range(len(tail)))
            assert skipped == 0 or tail[0][0] <= target
        # Otherwise the test would hold of a reader that never seeks.
        assert len(begun) > 1

    def test_frames_near_time_beyond_the_end(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4")
        whole, tail = read(path), read(path, near=10**9)
        assert [data for *_, data in tail] == [data for *_, data in whole[-len(tail) :]]

    @pytest.mark.parametrize("name", ["demo.webm", "demo.mp4"])
    def test_frames_near_times_in_real_clips(self, name, data):
        with open_video(str(data / name)) as video:
            whole = {f.pts: f.picture.image.to_ndarray().tobytes() for f in video.frames()}
        times = list(whole)
        for target in times[300::400]:
            with open_video(str(data / name)) as video:
                for count, frame in enumerate(itertools.islice(video.frames(near=target), 250)):
                    assert count or frame.pts <= target
                    assert frame.rank == count
                    assert frame.picture.image.to_ndarray().tobytes() == whole[frame.pts]

    def test_packet_times_decode_nothing(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4", b_frames=3, options=X264_OPEN)
        with open_video(str(path)) as video:
            times, keys = video.packet_times()
        assert times.tolist() == [pts for pts, *_ in read(path)]
        assert np.flatnonzero(keys).tolist() == [0, 12, 24]


# Corners of the cube, primaries at less than full, skin, sky, grass and grays.
PATCHES = np.array(
    [
        *itertools.product((0, 255), repeat=3),
        *[(200, 30, 40), (30, 180, 60), (40, 50, 190), (224, 172, 140)],
        *[(110, 160, 220), (90, 120, 40), (64, 64, 64), (190, 190, 190)],
    ],
    np.uint8,
).reshape(4, 4, 3)
PATCH = 16
LUMA = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}
H273 = {"601": 6, "709": 1, "2020": 9}  # matrix coefficients, H.273 table 4


def yuv_planes(matrix, full, bits):
    """``[3, height, width]`` of `PATCHES`, by the equations of H.273 section 8.3."""
    pixels = PATCHES.repeat(PATCH, 0).repeat(PATCH, 1).astype(float) / 255
    red, green, blue = np.moveaxis(pixels, -1, 0)
    k_red, k_blue = LUMA[matrix]
    luma = k_red * red + (1 - k_red - k_blue) * green + k_blue * blue
    differences = (blue - luma) / (2 - 2 * k_blue), (red - luma) / (2 - 2 * k_red)
    scale, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        planes = [luma * top, *(d * top + 128 * scale for d in differences)]
    else:
        planes = [(219 * luma + 16) * scale, *((224 * d + 128) * scale for d in differences)]
    return np.clip(np.rint(planes), 0, top).astype(np.uint8 if bits == 8 else np.uint16)


def yuv_image(planes, pix_fmt):
    """A frame with exactly these planes, chroma thinned as ``pix_fmt`` says."""
    height, width = planes[0].shape
    image = av.VideoFrame(width, height, pix_fmt)
    for plane, values in zip(image.planes, planes, strict=False):
        values = values[:: height // plane.height, :: width // plane.width]
        rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    return image


def patch_colours(pixels):
    """The middles of the patches, ``[4, 4, 3]``."""
    middle = PATCH // 2
    return pixels[middle::PATCH, middle::PATCH].astype(int)


class TestColors:
    @pytest.mark.parametrize(
        ("name", "codec", "options"),
        [("a.mkv", "ffv1", {}), ("a.mp4", "libx264", {"qp": "0", "preset": "ultrafast"})],
    )
    @pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("matrix", [*LUMA, None])
    def test_colors_are_preserved(
        self, matrix, full, pix_fmt, codec, name, options, write_video, tmp_path
    ):
        planes = yuv_planes(matrix or "601", full, 10 if "10" in pix_fmt else 8)
        tags = {"color_range": 2 if full else 1}
        if matrix:
            tags["colorspace"] = H273[matrix]

        def picture(index):
            return yuv_image(planes, pix_fmt)

        path = write_video(
            tmp_path / name,
            frames=1,
            codec=codec,
            options=options,
            pix_fmt=pix_fmt,
            size=planes[0].shape,
            tags=tags,
            picture=picture,
        )
        with av.open(str(path)) as container:
            assert next(container.decode(video=0)).colorspace == H273.get(matrix, 2)
        (pixels,) = rgb(path)
        assert np.abs(patch_colours(pixels) - PATCHES).max() <= 2

    def test_untagged_video_is_bt601_limited(self, write_video, tmp_path):
        planes = yuv_planes("601", False, 8)
        path = write_video(
            tmp_path / "a.mp4",
            frames=1,
            options={"qp": "0"},
            size=planes[0].shape,
            picture=lambda index: yuv_image(planes, "yuv420p"),
        )
        (pixels,) = rgb(path)
        assert np.abs(patch_colours(pixels) - PATCHES).max() <= 2

    @pytest.mark.parametrize("pix_fmt", ["gray", "rgb24", "gbrp", "yuvj420p"])
    def test_colors_of_formats_without_tags(self, pix_fmt, write_video, tmp_path):
        planes = yuv_planes("601", True, 8)
        expected = PATCHES.astype(int)
        if pix_fmt == "gray":
            expected = planes[0][PATCH // 2 :: PATCH, PATCH // 2 :: PATCH, np.newaxis].astype(int)
            image = yuv_image(planes, "gray")
        elif pix_fmt == "yuvj420p":
            image = yuv_image(planes, pix_fmt)
        else:
            image = PATCHES.repeat(PATCH, 0).repeat(PATCH, 1)
        codec = {"yuvj420p": "mjpeg", "rgb24": "png", "gbrp": "utvideo"}.get(pix_fmt, "ffv1")
        path = write_video(
            tmp_path / "a.nut",
            frames=1,
            codec=codec,
            pix_fmt=pix_fmt,
            size=(64, 64),
            options={"qmin": "1", "qmax": "1"} if codec == "mjpeg" else {},
            picture=lambda index: image,
        )
        (pixels,) = rgb(path)
        assert pixels.shape == (64, 64, 3)
        assert np.abs(patch_colours(pixels) - expected).max() <= 2


def corners(size=(48, 64)):
    """Red top left, green top right, blue bottom left, white bottom right."""
    height, width = size
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2, : width // 2] = 230, 20, 20
    pixels[: height // 2, width // 2 :] = 20, 200, 20
    pixels[height // 2 :, : width // 2] = 20, 20, 230
    return pixels


def corner_names(pixels):
    """Returns the colors at top left, top right, bottom left and bottom right."""
    height, width = pixels.shape[:2]
    names = ""
    for row, column in itertools.product(
        (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    ):
        bright = pixels[row, column] > 128
        names += "W" if bright.all() else "RGB"[int(np.flatnonzero(bright)[0])]
    return names


class TestRotation:
    @pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90])
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_frames_are_turned_upright(self, name, degrees, write_video, tmp_path):
        arguments = {"frames": 2, "picture": lambda index: corners(), "options": {"qp": "0"}}
        path = write_video(tmp_path / name, rotation=degrees, **arguments)
        plain_pixels = rgb(write_video(tmp_path / f"plain_{name}", **arguments))[0]
        turned = rgb(path)[0]
        assert np.array_equal(turned, np.rot90(plain_pixels, degrees // 90))

    @pytest.mark.parametrize(
        ("matrix", "seen"),
        [
            ((1, 0, 0, 1), "RGBW"),
            ((0, 1, -1, 0), "BRWG"),
            ((-1, 0, 0, -1), "WBGR"),
            ((0, -1, 1, 0), "GWRB"),
            ((-1, 0, 0, 1), "GRWB"),
            ((1, 0, 0, -1), "BWRG"),
            ((0, 1, 1, 0), "RBGW"),
            ((0, -1, -1, 0), "WGBR"),
            ((0, 0, 0, 0), "RGBW"),  # nonsense
        ],
    )
    def test_rotation_follows_display_matrix(self, matrix, seen, write_video, tmp_path):
        """A phone held upright stores its rows as columns, and says "turn clockwise" in the track header.

        The matrix [a b u; c d v; x y w] maps x' = a x + c y, y' = b x + d y, y pointing down
        (ISO 14496-12 section 6.2.2): with b = 1, c = -1 what was right comes to lie below. Front cameras
        mirror, too.
        """
        path = write_video(tmp_path / "a.mp4", frames=2, picture=lambda index: corners())
        stored = bytearray(path.read_bytes())
        header = stored.index(b"tkhd")
        assert stored[header + 4] == 0  # version
        at = header + 4 + 40
        assert bytes(stored[at : at + 4]) == (1 << 16).to_bytes(4, "big")
        a, b, c, d = ((v << 16).to_bytes(4, "big", signed=True) for v in matrix)
        stored[at : at + 20] = a + b + bytes(4) + c + d
        path.write_bytes(stored)
        (upright, _) = rgb(path)
        assert upright.shape == ((64, 48, 3) if not matrix[0] and any(matrix) else (48, 64, 3))
        assert corner_names(corners()) == "RGBW"
        assert corner_names(upright) == seen

    @pytest.mark.parametrize(
        ("rotation", "expected"), [(0, Fraction(4, 3)), (180, Fraction(4, 3)), (90, Fraction(3, 4))]
    )
    def test_pixel_aspect_is_of_upright_frame(self, rotation, expected, write_video, tmp_path):
        path = write_video(
            tmp_path / "a.mp4", frames=2, rotation=rotation, sample_aspect=Fraction(4, 3)
        )
        with open_video(str(path)) as video:
            assert {frame.picture.pixel_aspect for frame in video.frames()} == {expected}

    def test_pixel_aspect_defaults_to_square(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4", frames=2)
        with open_video(str(path)) as video:
            assert {frame.picture.pixel_aspect for frame in video.frames()} == {1}


SCRIPTS = {
    "text": "these are words\n" * 50,
    "empty": "",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{canary}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {canary}\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{canary}'
    "</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "avisynth": 'AVISource("{canary}")\n',
    "subtitles": "[Script Info]\nTitle: x\n",
}


class TestUntrustedFiles:
    @pytest.mark.parametrize("kind", SCRIPTS)
    def test_files_that_are_not_videos_are_refused(self, kind, write_video, tmp_path):
        canary = write_video(tmp_path / "canary.mp4", frames=3)
        path = tmp_path / "clip.mp4"
        path.write_text(SCRIPTS[kind].format(canary=canary.name))
        os.utime(canary, (0, 0))  # a first reading would change it (relatime)
        with pytest.raises(DecodingFailure) as failure, open_video(str(path)):
            pass
        assert failure.value.stage == "open"
        assert failure.value.reason
        assert str(tmp_path) not in failure.value.reason
        assert canary.stat().st_atime == 0

    def test_canary_server_detects_contact(self, write_video, tmp_path):
        """FFmpeg's own defaults do follow such a script: the refusals above are ours."""
        canary = write_video(tmp_path / "canary.mp4", frames=3)
        path = tmp_path / "clip.mp4"
        path.write_text(SCRIPTS["concat"].format(canary="canary.mp4"))
        assert len(plain(path)) == 3
        os.utime(canary, (0, 0))
        canary.read_bytes()
        if canary.stat().st_atime == 0:
            pytest.skip("this file system does not note when files are read")

    @pytest.mark.parametrize(
        "name", ["img%04d.png", "img%04d.mp4", "img*.png", "concat:a.mp4|a.mp4"]
    )
    def test_patterns_are_file_names(self, name, barcode, tmp_path):
        cv2.imwrite(str(tmp_path / "img0001.png"), barcode(1))
        (tmp_path / "img0001.mp4").write_bytes((tmp_path / "img0001.png").read_bytes())
        with pytest.raises(DecodingFailure) as failure, open_video(str(tmp_path / name)):
            pass
        assert failure.value.stage == "open"

    def test_image_is_not_a_video(self, barcode, tmp_path):
        path = tmp_path / "clip.mp4"
        path.write_bytes(cv2.imencode(".png", barcode(1))[1].tobytes())
        with pytest.raises(DecodingFailure) as failure, open_video(str(path)):
            pass
        assert failure.value.stage == "open"

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.mp4", "tcp://127.0.0.1:9", "pipe:0"])
    def test_addresses_are_file_names(self, url):
        with pytest.raises(DecodingFailure, match="No such file") as failure, open_video(url):
            pass
        assert failure.value.stage == "open"

    def test_folders_and_missing_files_fail(self, tmp_path):
        for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none.mp4", "No such file")):
            with pytest.raises(DecodingFailure, match=reason), open_video(str(path)):
                pass

    def test_huge_frame_is_refused(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.gif", codec="gif", frames=2)
        stored = bytearray(path.read_bytes())
        stored[6:10] = (8193).to_bytes(2, "little") * 2
        path.write_bytes(stored)
        with pytest.raises(DecodingFailure, match=f"8193x8193.*{MAX_PIXELS}") as failure:
            read(path)
        assert failure.value.stage == "limits"

    def test_frame_that_grows_beyond_limit_is_dropped(self, write_video, monkeypatch, tmp_path):
        """The header is a hint here too: what counts is the size of each frame."""
        small = write_video(tmp_path / "small.h264", frames=12)
        large = write_video(tmp_path / "large.h264", frames=12, size=(96, 128))
        path = tmp_path / "both.h264"
        path.write_bytes(small.read_bytes() + large.read_bytes() + small.read_bytes())
        monkeypatch.setattr("pipelines.decoding.containers.MAX_PIXELS", 96 * 128 - 1)
        assert {pixels.shape[:2] for pixels in rgb(path)} == {(48, 64)}

    def test_changing_size_is_accepted(self, write_video, tmp_path):
        small = write_video(tmp_path / "small.h264", frames=12)
        large = write_video(tmp_path / "large.h264", frames=12, size=(96, 128))
        path = tmp_path / "both.h264"
        path.write_bytes(small.read_bytes() + large.read_bytes())
        assert [pixels.shape[:2] for pixels in rgb(path)] == [(48, 64)] * 12 + [(96, 128)] * 12


class TestDamage:
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("a.mp4", {"b_frames": 2, "container_options": {"movflags": "faststart"}}),
            ("fragments.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
            ("a.mkv", {"b_frames": 2}),
            ("a.webm", {"codec": "libvpx-vp9"}),
            ("a.ts", {"b_frames": 2}),
            ("a.avi", {"codec": "mpeg4"}),
            ("a.mpg", {"codec": "mpeg2video"}),
            ("a.h264", {}),
        ],
    )
    def test_truncated_file_keeps_frames_before_the_cut(
        self, name, arguments, write_video, tmp_path
    ):
        path = write_video(tmp_path / name, frames=100, **arguments)
        whole = read(path)
        stored = path.read_bytes()
        path.write_bytes(stored[: len(stored) * 7 // 10])
        cut = read(path)
        assert 30 < len(cut) < 90
        # The last frame may be of a packet that was cut in two.
        assert cut[:-1] == whole[: len(cut) - 1]

    def test_file_truncated_before_its_index_fails(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4")
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(DecodingFailure) as failure, open_video(str(path)):
            pass
        assert failure.value.stage == "open"

    @pytest.mark.parametrize("damaged", [5, 12, 15])
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("a.mp4", {}),
            ("b.mp4", {"b_frames": 2}),
            ("open.mp4", {"b_frames": 3, "options": X264_OPEN}),
            ("mpeg4.mp4", {"codec": "mpeg4"}),
            ("mpeg4.avi", {"codec": "mpeg4"}),
            ("hevc.mp4", {"codec": "libx265"}),
        ],
    )
    def test_damaged_packet_is_a_break_until_next_keyframe(
        self, name, arguments, damaged, write_video, tmp_path
    ):
        path = write_video(tmp_path / name, **arguments)
        whole = read(path)
        stored = bytearray(path.read_bytes())
        position, size, damaged_pts = packets(path)[damaged]
        stored[position : position + size] = bytes(size)
        path.write_bytes(stored)
        with open_video(str(path)) as video:
            frames = [
                (f.pts, f.rank, f.picture.image.to_ndarray().tobytes(), f) for f in video.frames()
            ]
            assert video.breaks == 1
            assert video.truncated is None
        # Every frame that comes is right, and knows its place as if none were missing.
        by_time = {pts: (rank, data) for pts, rank, data in whole}
        if name.endswith("mp4"):
            assert all(by_time[pts] == (rank, data) for pts, rank, data, _ in frames)
        else:
            assert all(by_time[pts][1] == data for pts, _, data, _ in frames)
        after = [frame for *_, frame in frames if frame.after_break]
        (resumed,) = (by_time[frame.pts][0] for frame in after)
        assert resumed in (12, 24)
        assert resumed > by_time[damaged_pts][0]
        assert frames[-1][0] == whole[-1][0]

    @pytest.mark.parametrize("damaged", [24, 26])
    @pytest.mark.parametrize(
        ("name", "codec"), [("a.webm", "libvpx-vp9"), ("a.mp4", "mpeg4"), ("b.mp4", "libx264")]
    )
    def test_damage_breaks_alike_from_any_start(self, name, codec, damaged, write_video, tmp_path):
        """Decoders without checksums predict from whatever came before; such frames must never come out."""
        path = write_video(tmp_path / name, codec=codec, frames=48)
        targets = [pts for pts, *_ in read(path)]
        stored = bytearray(path.read_bytes())
        position, size, _ = packets(path)[damaged]
        header = 12 if name.endswith("webm") else 0
        stored[position + header : position + size] = bytes(size - header)
        path.write_bytes(stored)
        whole = [(pts, data) for pts, _, data in read(path)]
        assert len(whole) < 48
        for target in targets:
            tail = [(pts, data) for pts, _, data in read(path, near=target)]
            assert tail == whole[len(whole) - len(tail) :]
            assert len(tail) >= sum(pts >= target for pts, _ in whole)

    @pytest.mark.parametrize("cut", [0.5, 0.95])
    def test_file_that_ends_inside_a_frame_is_truncated(self, cut, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4", container_options={"movflags": "faststart"})
        stored = path.read_bytes()
        for length, reason in (
            (len(stored), None),
            (round(len(stored) * cut), "the file ends inside a frame"),
        ):
            path.write_bytes(stored[:length])
            with open_video(str(path)) as video:
                assert len(list(video.frames())) > 5
                assert video.truncated == reason

    def test_unknown_codec_is_refused(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.webm", codec="libvpx-vp9", frames=2)
        path.write_bytes(path.read_bytes().replace(b"V_VP9", b"V_XY9"))
        with pytest.raises(DecodingFailure, match="codec") as failure, open_video(str(path)):
            pass
        assert failure.value.stage == "open"

    def test_stream_may_start_between_keyframes(self, write_video, read_barcode, tmp_path):
        path = write_video(tmp_path / "a.ts", codec="mpeg2video", frames=36)
        positions = [position for position, *_ in packets(path)]
        head, tail = path.read_bytes()[: positions[0]], path.read_bytes()[positions[5] :]
        path.write_bytes(head + tail)
        indices = [read_barcode(pixels) for pixels in rgb(path)]
        assert indices == list(range(12, 36))

    def test_garbage_never_crashes(self, data, tmp_path):
        """Reading random damage ends in frames or in a DecodingFailure; in a process of its own."""
        program = (
            "import sys, numpy as np\n"
            "from pipelines.decoding.video import open_video\n"
            "from pipelines.decoding.protocol import DecodingFailure\n"
            "for seed in range(12):\n"
            "    random = np.random.default_rng(seed)\n"
            "    stored = np.frombuffer(open(sys.argv[1], 'rb').read()[:150_000], np.uint8).copy()\n"
            "    where = random.integers(0, len(stored), 60)\n"
            "    stored[where] = random.integers(0, 256, 60)\n"
            "    stored.tofile(sys.argv[2])\n"
            "    try:\n"
            "        with open_video(sys.argv[2]) as video:\n"
            "            for frame in video.frames():\n"
            "                frame.picture.to_rgb()\n"
            "    except DecodingFailure:\n"
            "        pass\n"
            "print('done')\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program, str(data / "demo.webm"), str(tmp_path / "x.webm")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.stdout == "done\n", ended.stderr[-2000:]


EXTENTS = {
    "steady.mp4": {"frames": 30},
    "b_frames.mp4": {"frames": 30, "b_frames": 3, "options": X264_PYRAMID},
    "late.mp4": {"frames": 30, "b_frames": 2, "times": range(5000, 6200, 40)},
    "early.mkv": {"frames": 30, "b_frames": 2, "times": range(-200, 1000, 40)},
    "uneven.mp4": {"b_frames": 2, "times": [0, 10, 50, 55, 100, 300, 333, *range(400, 2000, 83)]},
    "fragments.mp4": {"frames": 30, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "hidden.webm": CUTTABLE["vp9_hidden.webm"],
    "decoded.avi": {"frames": 30, "codec": "mpeg4"},
    "stream.ts": {"frames": 30, "b_frames": 2},
    "one.mp4": {"frames": 1},
    "one.mkv": {"frames": 1},
}


OTHERS = {
    "stream.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "raw.h264": {"b_frames": 2},
    "ntsc.ts": {"rate": Fraction(30000, 1001), "b_frames": 2},
    "film.avi": {"rate": 24, "codec": "mpeg4", "b_frames": 2},
    "motion.avi": {"codec": "mjpeg"},
    "picture.gif": {"codec": "gif", "rate": 10},
}


@pytest.mark.parametrize("name", [*(CUTTABLE | EXTENTS | OTHERS)])
def test_header_only_probe_matches_full_probe(name, write_video, tmp_path):
    path = str(write_video(tmp_path / name, **(CUTTABLE | EXTENTS | OTHERS)[name]))
    with open_video(path) as video, open_video(path, header_only=True) as header:
        if "h264" in video._stream.codec_context.name:  # only a frame tells
            assert header._stream.codec_context.format is None
        assert header.probe() == video.probe()


class TestExtent:
    @pytest.mark.parametrize("name", EXTENTS)
    def test_extent_matches_frames(self, name, write_video, tmp_path):
        path = write_video(tmp_path / name, **EXTENTS[name])
        with open_video(str(path)) as video:
            extent = video.extent()
        with open_video(str(path)) as video:
            times = [frame.pts * video.time_base for frame in video.frames()]
            probe = video.probe()
            assert Fraction(*extent.time_base) == video.time_base
            assert Fraction(*extent.tolerance) == video.tolerance
        first = extent.first_pts * Fraction(*extent.time_base)
        assert (extent.frames, first) == (len(times), times[0])
        assert (extent.cuttable, extent.created) == (probe.cuttable, None)
        # The last frame is shown for as long as its packet says, or as the one before.
        last = first + Fraction(*extent.seconds) - times[-1]
        if name == "uneven.mp4":
            assert Fraction(0) < last <= Fraction(1, 10)
        elif name != "one.mkv":
            assert abs(last - Fraction(1, 25)) <= Fraction(1, 1000)

    def test_extent_ends_where_file_was_cut(self, write_video, tmp_path):
        path = write_video(
            tmp_path / "cut.mp4", frames=100, container_options={"movflags": "faststart"}
        )
        stored = path.read_bytes()
        path.write_bytes(stored[: len(stored) * 6 // 10])
        with open_video(str(path)) as video:
            extent = video.extent()
            assert video.truncated == "the file ends inside a frame"
            assert video.probe().duration == pytest.approx(4.0)  # the header's word
        assert 40 < extent.frames < 80
        assert Fraction(*extent.seconds) == extent.frames * Fraction(1, 25)

    @pytest.mark.parametrize("name", ["late.mkv", "late.webm", "late.mp4", "late.ts"])
    def test_late_start_does_not_lengthen_extent(self, name, write_video, tmp_path):
        """Matroska says when a file ends, others how long it lasts."""
        codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
        times = range(5000, 9000, 40)
        path = write_video(tmp_path / name, codec=codec, times=times)
        with open_video(str(path)) as video:
            assert video.probe().duration == pytest.approx(4.0, abs=0.1)

    def test_extent_reports_progress_for_each_packet(self, write_video, tmp_path):
        path, calls = write_video(tmp_path / "a.mp4", frames=12), []
        with open_video(str(path), lambda: calls.append(1)) as video:
            video.extent()
        assert len(calls) >= 12

    def test_extent_of_file_without_frames_fails(self, tmp_path):
        path = tmp_path / "empty.mp4"
        with av.open(str(path), "w", options={"movflags": "empty_moov"}) as output:
            stream = output.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            output.start_encoding()
        with (
            open_video(str(path)) as video,
            pytest.raises(DecodingFailure, match=r"^open: no frame in the file has a timestamp$"),
        ):
            video.extent()


class TestOrigin:
    @pytest.mark.parametrize("name", EXTENTS)
    def test_origin_is_time_of_first_frame(self, name, write_video, tmp_path):
        path = write_video(tmp_path / name, **EXTENTS[name])
        with open_video(str(path)) as video:
            first = video.first_pts()
        with open_video(str(path)) as video:
            assert video.origin_pts() == first

    @pytest.mark.parametrize(("name", "told"), [("a.mp4", True), ("a.avi", False)])
    def test_origin_does_not_need_decodable_first_frame(self, name, told, write_video, tmp_path):
        """Except where packets do not tell: AVI's."""
        path = write_video(tmp_path / name, frames=30, codec="mpeg4", gop=10)
        with open_video(str(path)) as video:
            whole = video.first_pts()
        position, size, _ = packets(path)[0]
        stored = bytearray(path.read_bytes())
        stored[position : position + size] = bytes(size)
        path.write_bytes(stored)
        with open_video(str(path)) as video:
            assert video.first_pts() > whole
        with open_video(str(path)) as video:
            assert (video.origin_pts() == whole) == told


class TestCreated:
    @staticmethod
    def write(path, created=None):
        with av.open(str(path), "w") as output:
            if created is not None:
                output.metadata["creation_time"] = created
            video = output.add_stream("mpeg4", rate=25)
            video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
            image = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            for packet in [*video.encode(image), *video.encode(None)]:
                output.mux(packet)
        return path

    @staticmethod
    def created(path):
        with open_video(str(path)) as video:
            created = video.probe().created
            assert video.extent().created == created
        return created

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14T22:13:20.000000Z", 1_700_000_000),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000),
            ("1970-01-01T00:00:00Z", None),  # a camera without a clock
        ],
    )
    def test_created_is_creation_time(self, text, seconds, tmp_path):
        assert self.created(self.write(tmp_path / "a.mp4", text)) == seconds

    def test_created_is_none_without_creation_time(self, tmp_path):
        assert self.created(self.write(tmp_path / "a.mp4")) is None

    @pytest.mark.parametrize(
        ("tags", "seconds"),
        [
            ([{"creation_time": "2023-11-14T22:13:20Z"}], 1_700_000_000),
            ([{}, {"creation_time": "2023-11-14 22:13:20"}], 1_700_000_000),  # UTC, without an offset
            ([{"creation_time": "yesterday"}, {"creation_time": "2023-11-14T22:13:20Z"}], 1_700_000_000),
            ([{"creation_time": "1904-01-01T00:00:00Z"}, {}], None),
            (
                [{"creation_time": "1904-01-01T00:00:00Z"}, {"creation_time": "2023-11-14T22:13:20Z"}],
                1_700_000_000,
            ),
            ([{"creation_time": ""}], None),
            ([{"title": "x"}, {}], None),
        ],
    )  # fmt: skip
    def test_created_is_first_plausible_time(self, tags, seconds):
        assert _created(*tags) == seconds

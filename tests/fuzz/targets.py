"""Fuzzing targets: our parsers as functions of bytes. Each accepts them or raises its documented error.

Any other exception is a finding. So are unlimited memory and time, which the fuzzer detects.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import io
import itertools
import json
import tempfile
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.decoding.segments import build_segment, find_extent, probe_file
from pipelines.decoding.truncation import find_missing_end
from pipelines.errors import UserError
from pipelines.images.frame_times import FrameTimeError, order_by_time
from pipelines.images.headers import ImageError, decode_rgb, read_header
from pipelines.labels.annotations import AnnotationError, read_label
from pipelines.labels.cells import TelemetryError
from pipelines.labels.formulas import compute
from pipelines.labels.telemetry import read_telemetry
from pipelines.options.dataset import ImageOptions, LabelOptions, SamplingOptions
from pipelines.options.formulas import FormulaError, parse_formula
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Listing, Segment, Source
from pipelines.sources.manifest import list_manifest
from pipelines.sources.split_lists import apply_split_lists
from tests.telemetry_videos import blackvue, camm, camm_gps, mp4, novatek, rmc
from tfrecords_schema.codec import to_json
from tfrecords_schema.examples import decode_record
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.records import CorruptRecordError, frame_record, read_records
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SpecError

HERE = Path(__file__).parent
_MAX_CONTAINER = 1 << 20
_MAX_RECORDS = 500
_MAX_SECONDS = 5
_MAX_PIXELS = 1 << 20  # larger pictures are not decoded
_SPEC = SequenceSpec(
    num_frames=2,
    frame_rate=10.0,
    image=ImageSpec(height=8, width=8),
    label=LabelSpec(task="classification", class_names=("a", "b")),
)


class Target(NamedTuple):
    """A parser as a function of bytes, and valid inputs to start from."""

    read: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def read_framing(data: bytes) -> None:
    with contextlib.suppress(CorruptRecordError):
        for record in read_records(io.BytesIO(data), "x"):
            assert frame_record(record.data) == data[record.offset :][: len(record.data) + 16]


def read_record(data: bytes) -> None:
    with contextlib.suppress(SpecError):
        decode_record(data, _SPEC)


def read_info(data: bytes) -> None:
    with contextlib.suppress(DatasetInfoError):
        DatasetInfo.from_bytes(data, "x").to_bytes()


def read_picture(data: bytes) -> None:
    header = read_header(data)
    if header is not None and 0 < header.height * header.width <= _MAX_PIXELS:
        with contextlib.suppress(ImageError):
            assert decode_rgb(data, header).shape == (*header.upright_size, 3)


def _build_request(path: str) -> BuildRequest:
    source = Source(id="a", path=path, data_path="a", group="a", labels=("a",))
    sampling = SamplingOptions(num_frames=2, frame_rate=Fraction(10))
    return BuildRequest(
        **{"segment": Segment(source=source), "spec": _SPEC, "dataset_name": "x"},
        **{"sampling": sampling, "image": ImageOptions(size=(8, 8)), "label_indices": (0,)},
    )


def read_container(data: bytes) -> None:
    """Builds a clip in this process, at most `_MAX_RECORDS` records of it, guided by our code's coverage."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data[:_MAX_CONTAINER])
        file.flush()
        started, left = time.monotonic(), itertools.count(_MAX_RECORDS, -1)

        def stop(_: object = None) -> None:
            if time.monotonic() - started > _MAX_SECONDS or (_ is not None and not next(left)):
                raise DecodingFailure("limits", "enough was read")

        with contextlib.suppress(DecodingFailure):
            probe_file(file.name)
            extent = find_extent(file.name, stop)
            assert extent.frames
            result = build_segment(_build_request(file.name), stop, stop)
            assert result.sequences or result.short_clips or result.truncated or result.breaks


class _Child:
    """Builds a clip in a decoder process, as builds do: it answers, or a decoder of FFmpeg crashed."""

    @functools.cached_property
    def _decoder(self) -> DecoderProcess:
        decoder = DecoderProcess(timeout=60)
        atexit.register(decoder.close)
        return decoder

    def __call__(self, data: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data[:_MAX_CONTAINER])
            file.flush()
            try:
                self._decoder.probe(file.name)
                self._decoder.extent(file.name)
                records = self._decoder.records(_build_request(file.name))
                with contextlib.closing(records):
                    for record in itertools.islice(records, _MAX_RECORDS):
                        decode_record(record, _SPEC)
            except DecodingFailure as failure:
                if failure.stage == "process" and "was killed by" not in failure.reason:
                    raise


class _File:
    """A reader of files as a function of bytes, which are written to a file of the given name."""

    def __init__(self, name: str, read: Callable[[str], object], errors: type[Exception]):
        self._name, self._read, self._errors = name, read, errors

    @functools.cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory()

    def __call__(self, data: bytes) -> None:
        path = Path(self._folder.name) / self._name
        path.write_bytes(data)
        with contextlib.suppress(self._errors):
            self._read(str(path))


def _telemetry(name: str, **options: object) -> _File:
    chosen = TelemetryOptions(telemetry=name, **options)  # type: ignore[arg-type]
    return _File(name, lambda p: read_telemetry(p, name, chosen, columns=["speed"]), TelemetryError)


class _Pairs:
    """A reader of a folder with a pair of arrays, the first of them made of the bytes."""

    def __call__(self, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "speed").mkdir()
            (Path(folder) / "speed" / "t").write_bytes(data)
            (Path(folder) / "speed" / "value").write_bytes(_npy(np.arange(4.0)))
            options = TelemetryOptions(telemetry="x", time_column="t")
            with contextlib.suppress(TelemetryError):
                read_telemetry(folder, "x", options, columns=["speed"])


def read_formula(data: bytes) -> None:
    with contextlib.suppress(FormulaError):
        formula = parse_formula(data.decode("utf-8", "surrogateescape"))
        columns = {name: np.array([1.0, np.nan, 0.0, -2.0]) for name in formula.names}
        found = compute(formula, columns, np.arange(4.0), angles=formula.names[:1])
        assert found.shape == (4,)
        assert not np.isinf(found).any()


def read_frame_times(data: bytes) -> None:
    names = data.decode("utf-8", "surrogateescape").split("\n")
    with contextlib.suppress(FrameTimeError):
        found = order_by_time(names)
        assert sorted(found.names) == sorted(names)
        assert (np.diff(found.slots) > 0).all()


def _split_list(path: str) -> None:
    sources = (
        Source(id=f"{c}/v_{c}.avi", path="x", data_path=f"{c}/v_{c}.avi", group=c) for c in "ab"
    )
    listing = Listing(name="fuzz", sources=tuple(sources), label=LabelSpec())
    apply_split_lists(listing, [path])
    apply_split_lists(listing, [f"train={path}"])


def _endings(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        for name in ("avi", "gif", "mpegts", "mpeg", "flv", "ivf", "matroska,webm"):
            find_missing_end(file.name, name)


_SIZES = {"h261": (176, 144), "h263": (176, 144), "dvvideo": (720, 576)}  # the only ones, of few
_PIXELS = {"gif": "rgb8", "mjpeg": "yuvj420p"}


def _container(suffix: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=suffix) as output:
        stream = output.add_stream(codec, rate=25)
        width, height = stream.width, stream.height = _SIZES.get(codec, (64, 48))
        stream.pix_fmt = _PIXELS.get(codec, "yuv420p")
        stream.codec_context.gop_size = 5
        for index in range(20 if codec != "dvvideo" else 5):
            pixels = np.full((height, width, 3), index * 12, np.uint8)
            image = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format=stream.pix_fmt
            )
            image.pts = index
            output.mux(stream.encode(image))
        output.mux(stream.encode(None))
    return file.getvalue()


_CONTAINERS = (
    "mp4 libx264, matroska libx264, webm libvpx-vp9, avi mpeg4, gif gif, mpegts mpeg2video, ogg libtheora, "
    "mpeg mpeg1video, flv flv, asf wmv2, nut mpeg4, h264 libx264, mxf mpeg2video, ivf libvpx, rm rv20, "
    "wtv mpeg2video, dv dvvideo, swf flv, h261 h261, h263 h263, m4v mpeg4, hevc libx265, "
    "mpeg2video mpeg2video, mjpeg mjpeg, yuv4mpegpipe wrapped_avframe, 3gp h263, vob mpeg2video"
)


# Six frames of AV1. As root, its encoder makes the caller a real-time thread, which starves its own threads.
_OBU = base64.b64decode(
    "EgAKCgAAAAKv941fIAgyDxAAloAQQIIAABAAKNH9lBIAMhUoBAAkkkk9TwBBAggQADAAF+bfgsAyFCgCAQSSAD14AGGDDBAAGAAYVRGs"
    "MhIwAwAJJMM7GAAAAgADAAAalT8SABoBuBIAMhIwBgANNgA7GAAAAgADAAAalT8SABoBiBIACgoAAAACr/eNXyAIMg8QFJeAEECCAAAQ"
    "ACjSRXA="
)


@functools.cache
def _containers() -> tuple[bytes, ...]:
    pairs = [pair.split() for pair in _CONTAINERS.split(", ")]
    return (_OBU, *(_container(*pair) for pair in pairs if pair[1] in av.codecs_available))


def _picture(extension: str) -> bytes:
    return bytes(cv2.imencode(extension, np.arange(192, dtype=np.uint8).reshape(8, 8, 3))[1])


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


_INFO = {
    "format_version": 1,
    "name": "x",
    "spec": to_json(_SPEC),
    "splits": {
        "train": {
            "shards": [{"file": "train-00000-of-00001.tfrecord", "records": 1, "bytes": 9, "sha256": "0"}],
            **{name: [] for name in ("label_counts", "targets", "pixel_mean", "pixel_std")},
            **{"signals": {}, "groups": 1, "sources": 1},
        }
    },
    **{"counts": {}, "options": {}, "versions": {}, "fingerprint": ""},
}  # fmt: skip
_GPX = (
    b'<?xml version="1.0"?><gpx><trk><trkseg><trkpt lat="1.5" lon="2"><time>2023-11-14T22:13:20Z</time>'
    b'<speed>3</speed></trkpt><trkpt lat="1.6" lon="2"><time>2023-11-14T22:13:21Z</time></trkpt>'
    b"</trkseg></trk></gpx>"
)

TARGETS = {
    "container": Target(read_container, _containers()),
    "child": Target(_Child(), _containers()),
    "framing": Target(read_framing, (frame_record(b"one") + frame_record(b""), frame_record(b"x" * 99))),
    "record": Target(read_record, (b"", zlib.compress(b"x"), b"\x0a\x10\x0a\x0e\x0a\x0aexample/id\x12\x00")),
    "info": Target(read_info, (json.dumps(_INFO).encode(), b"{}", b"[]")),
    "picture": Target(read_picture, tuple(map(_picture, (".jpg", ".png", ".bmp", ".webp", ".tiff")))),
    "endings": Target(_endings, (b"RIFF\x0c\0\0\0AVI LIST", b"GIF89a" + bytes(9) + b";", b"G" * 400)),
    "manifest_csv": Target(
        _File("x.csv", lambda p: list_manifest(p, LabelOptions()), UserError),
        (b"path,label,start,end,split,group\na.mp4,x|y,1,2.5,train,g\n", b'path,label\n"a\n""b.mp4",x\n',
         b"sep=;\nVideo;Class;start_frame;last_frame\na\\b.mp4;x;1;2,0\n",
         "file\tlabel\na\t['x']\n".encode("utf-16")),
    ),
    "manifest_json": Target(
        _File("x.json", lambda p: list_manifest(p, LabelOptions()), UserError),
        (b'[{"path": "a.mp4", "labels": ["x", 1], "start": "1:02.5"}]',
         b'{"a.mp4": {"label": true, "split": "VAL"}}', b'{"file": {"0": "a"},\n"label": {"0": "b"}}',
         b'{"path": "a", "label": "x"}\n\n{"path": "b", "label": "x"}'),
    ),
    "manifest_jsonl": Target(
        _File("x.jsonl", lambda p: list_manifest(p, LabelOptions()), UserError),
        (b'{"path": "a.mp4", "label": "x", "start": 1, "end": 2}\n', b'{"path": null}\n[]\n'),
    ),
    "manifest_targets": Target(
        _File("x.csv", lambda p: list_manifest(p, LabelOptions(label_columns=("v",))), UserError),
        (b"path,v\na.mp4,1.5\n", b"path,v\na.mp4,1e999\n"),
    ),
    "split_list": Target(
        _File("a_test_split1.txt", _split_list, UserError),
        (b"a/v_a.avi 1\nb/v_b.avi 2\n", b"v_a.avi 0\n"),
    ),
    "annotation": Target(
        _File("x.json", lambda p: read_label(p, "x", "[0].velocity"), AnnotationError),
        (b'[{"velocity": [9.5, -0.1]}]', b'[{"velocity": "fast"}]', b"[" * 2000),
    ),
    "telemetry_csv": Target(
        _telemetry("x.csv", time_column="t"),
        (b"t,speed\n0,1.5\n0.5,2\n", b"t;speed\n0;1,5\n", b"\xef\xbb\xbft,speed\r\n2023-11-14T22:13:20Z,1"),
    ),
    "telemetry_positions": Target(
        _telemetry("x.csv", time_column="t"),
        (b"t,lat,lon\n0,52.5,13.2\n1,52.5001,13.2\n2,0,0\n3,91,13\n", b"t,latitude,longitude\n0,1,nan\n"),
    ),
    "formula": Target(read_formula, (b"d(speed) / (a - 3.6)", b"-heading * +2e3", b"a[0]", b"d(a,)")),
    "frame_times": Target(
        read_frame_times, (b"1533151423512404.jpg\n1533151423612404.jpg", b"a_12.5.png\nb_13.25_c.png")
    ),
    "telemetry_video": Target(
        _telemetry("x.mp4"), ((HERE.parent / "data" / "gopro.mp4").read_bytes(),)
    ),
    "telemetry_camm": Target(
        _telemetry("x.mp4"),
        (mp4([camm_gps(52.5, 13.2, 1, 2), camm(3, "3f", 1, 2, 3)] * 2, kind=b"camm"),
         mp4([camm(5, "3d", 52.5, 13.2, 30), camm(5, "3d", 52.5001, 13.2, 30)], kind=b"camm")),
    ),
    "telemetry_nmea": Target(
        _telemetry("x.nmea"),
        ("\n".join([rmc("095959", 5, 90), rmc("100000.5", 6, 91), rmc("1", 0, 0, status="V")]).encode(),),
    ),
    "telemetry_boxes": Target(
        _telemetry("x.mp4"),
        (novatek([((9, 59, i), b"A", 5230.5, 1315.5, 5, 90) for i in range(3)]),
         novatek([((9, 59, i), b"A", 5230.5, 1315.5, 5, 90) for i in range(3)], start=16),
         blackvue([(1000 * i, rmc(f"09595{i}", 5, 90)) for i in range(3)]),
         mp4([rmc("095959", 5, 90).encode(), b"", rmc("100000", 6, 90).encode()], kind=b"text")),
    ),
    "telemetry_pairs": Target(_Pairs(), (_npy(np.arange(4.0)), _npy(np.arange(4, dtype=np.int8)))),
    "telemetry_text": Target(
        _telemetry("x.txt", time_column="t", telemetry_columns=("t", "speed")),
        (b"0 1.5\n0.5 2\n", b"# comment\n0\t1\n"),
    ),
    "telemetry_jsonl": Target(
        _telemetry("x.jsonl", time_column="t"), (b'{"t": 0, "speed": 1}\n{"t": 1, "speed": null}\n',)
    ),
    "telemetry_json": Target(_telemetry("x.json", time_column="t"), (b'[{"t": 0, "speed": 1.5}]',)),
    "telemetry_gpx": Target(_telemetry("x.gpx"), (_GPX,)),
    "telemetry_npy": Target(
        _telemetry("x.npy", time_column="t", telemetry_columns=("t", "speed")),
        (_npy(np.arange(8.0).reshape(4, 2)), _npy(np.array([[1, 2]], np.int8))),
    ),
}  # fmt: skip

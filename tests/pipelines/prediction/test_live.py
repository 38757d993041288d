"""`pipelines predict --live` on streams of a loopback server, which sends what the rows so far allow."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import av
import pytest
import tensorflow as tf

from pipelines import build_videos
from pipelines.cli import main
from pipelines.decoding import live
from pipelines.errors import UsageError
from pipelines.options.dataset import RunOptions
from pipelines.options.verbs import PredictionOptions
from pipelines.prediction.live import newest
from tests.pipelines.prediction.test_predict import write_export
from tests.processes import ROOT, wait_until
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import LabelSpec

RATE, STEP, NUM_FRAMES, STRIDE, SIZE = 25, 5, 8, 4, (12, 16)
FRAMES = 152
ROWS = 6
_MARGIN = 12  # frames that demuxer, decoder and sampling may hold back; a window comes every 20


def count_windows(frames):
    """Returns how many sequences are complete once so many frames are sent, whatever is held back."""
    last = STEP * (NUM_FRAMES - 1) + _MARGIN
    return max(0, -(-(frames - last) // (STEP * STRIDE)))


class Stream(ThreadingHTTPServer):
    """Serves a transport stream; a frame is sent when the rows of those before it are written.

    The path says how it ends: /whole, /reset, /silent (stays open), or /error for none at all.
    """

    daemon_threads = True

    def __init__(self, data):
        starts = [
            at
            for at in range(0, len(data), 188)
            if data[at + 1] & 0x40 and (data[at + 1] & 0x1F) << 8 | data[at + 2] == 0x100
        ]
        ends = [*starts[1:], len(data)]
        self.parts = [
            data[: ends[0]],
            *(data[a:b] for a, b in zip(starts[1:], ends[1:], strict=True)),
        ]
        self.rows = lambda: FRAMES
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, ending):
        return f"http://user:secret@127.0.0.1:{self.server_port}/{ending}?token=hidden"

    def follow(self, output, header=0):
        """Lets the rows of a file decide what is sent."""
        self.rows = lambda: output.read_bytes().count(b"\n") - header if output.exists() else 0


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        ending = self.path.strip("/").partition("?")[0]
        self.send_response(404 if ending == "error" else 200)
        self.end_headers()
        if ending == "error":
            return
        with contextlib.suppress(ConnectionError):
            for sent, part in enumerate(self.server.parts):
                wait_until(lambda sent=sent: self.server.rows() >= count_windows(sent), 120)
                self.wfile.write(part)
            if ending != "whole":
                wait_until(lambda: self.server.rows() >= count_windows(FRAMES), 120)
            if ending == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.shutdown(socket.SHUT_RD)
                self.connection.close()
            if ending == "silent":
                self.connection.recv(1)  # until the other side closes

    def finish(self):
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_video):
    """``stream.ts``, and exports ``pixels`` (each pixel as a target) and ``shade`` (two classes)."""
    root = tmp_path_factory.mktemp("live")
    write_video(root / "stream.ts", frames=FRAMES, rate=RATE, container="mpegts", size=(48, 64))
    for name in ("a", "b"):
        (root / "clips" / name).mkdir(parents=True)
        write_video(root / "clips" / name / "clip.mp4", frames=50)
    info = build_videos(
        str(root / "clips"),
        str(root / "dataset"),
        num_frames=NUM_FRAMES,
        frame_rate=RATE // STEP,
        size=SIZE,
        stride=STRIDE,
        workers=1,
    )
    info = info or DatasetInfo.load(root / "dataset")
    size = NUM_FRAMES * SIZE[0] * SIZE[1] * 3
    label = LabelSpec(task="regression", target_names=tuple(f"p{i}" for i in range(size)))

    def pixels(inputs):
        return tf.cast(tf.reshape(inputs["image"], [-1, size]), tf.float32)

    def shade(inputs):
        mean = tf.reduce_mean(tf.cast(inputs["image"], tf.float32), [1, 2, 3, 4]) / 255
        return tf.stack([mean, 1 - mean], 1)

    write_export(root / "pixels", replace(info, spec=replace(info.spec, label=label)), pixels)
    write_export(root / "shade", info, shade)
    return root


@pytest.fixture
def stream(folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Stream((folder / "stream.ts").read_bytes()) as server:
        yield server
        server.shutdown()


def watch(folder, model, url, output, *flags):
    command = ["predict", "--live", "--model", folder / model, "--input", url, "--output", output]
    return main(list(map(str, [*command, *flags])))


def watch_in_time(capsys, folder, model, url, output, *flags):
    """Status and words of a run without drops, which a machine that is busy for a second may make."""
    for _ in range(3):
        output.unlink(missing_ok=True)
        shutil.rmtree(output.parent / "drawn", ignore_errors=True)
        status = watch(folder, model, url, output, *flags)
        said = capsys.readouterr()
        if not re.search("; dropped (?!0 sequences, 0 frames)", said.out):
            break
    return status, said


@pytest.mark.slow
def test_stream_has_the_rows_of_the_file(folder, stream, tmp_path, capsys):
    output = tmp_path / "live.jsonl"
    stream.follow(output)
    status, (said, _) = watch_in_time(capsys, folder, "pixels", stream.url("whole"), output)
    assert status == 0
    command = ["predict", "--model", str(folder / "pixels"), "--input", str(folder / "stream.ts")]
    assert main([*command, "--output", str(tmp_path / "file.jsonl")]) == 0
    found, expected = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("live.jsonl", "file.jsonl")
    )
    address = f"http://127.0.0.1:{stream.server_port}/whole"
    assert [row.pop("source") for row in found] == [address] * len(expected)
    assert [row.pop("source") for row in expected] == ["stream.ts"] * len(found)
    assert found == expected
    assert len(found) == ROWS
    assert said.count("latency ") == said.count("; dropped 0 sequences, 0 frames\n") == len(found)
    assert f"the stream has ended: {ROWS} rows in {output}; 0 sequences dropped" in said
    assert "secret" not in said
    assert "hidden" not in said


@pytest.mark.slow
def test_each_sequence_is_drawn(folder, stream, tmp_path, capsys):
    output = tmp_path / "live.csv"
    stream.follow(output, header=1)
    drawn = tmp_path / "drawn"
    flags = ("--overlay", drawn)
    status, said = watch_in_time(capsys, folder, "shade", stream.url("whole"), output, *flags)
    assert status == 0
    with output.open() as file:
        ends = [float(row["end"]) for row in csv.DictReader(file)]
    with av.open(str(drawn / "live.csv.mjpeg")) as video:
        pictures = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
    assert len(pictures) == len(ends) == ROWS
    for picture, end in zip(pictures, ends, strict=True):
        assert len(picture) >= 360
        columns = picture[-100:-20].reshape(80, 8, -1).mean(axis=(0, 2))
        assert sum(int(c < 128) << k for k, c in enumerate(columns)) == round(end * RATE)
        assert picture[:5, :5].max() < 40  # behind the text
    assert ": a 5" in said.out


@pytest.mark.slow
def test_stream_that_breaks_keeps_its_rows(folder, stream, tmp_path, capsys):
    output = tmp_path / "live.jsonl"
    stream.follow(output)
    status, said = watch_in_time(capsys, folder, "shade", stream.url("reset"), output)
    assert status == 1
    assert len(output.read_text().splitlines()) == said.out.count("latency") == ROWS
    assert f"/reset: decode: Connection reset by peer; {ROWS} rows are written" in said.err
    assert watch(folder, "shade", stream.url("whole"), output) == 2
    assert f"{output} exists" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_address_that_does_not_answer(folder, tmp_path, capsys, scheme, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://user:secret@127.0.0.1:{silent.getsockname()[1]}/"
        output = tmp_path / "live.csv"
        assert watch(folder, "shade", url, output, "--decode_timeout", 0.5) == 2
    error = capsys.readouterr().err
    assert f"--input {scheme}://127.0.0.1:" in error
    assert "open: no answer for the seconds of --decode_timeout (expected a camera" in error
    assert "; 0 rows are written" in error
    assert "secret" not in error
    assert not output.exists()


@pytest.mark.slow
def test_stream_that_falls_silent_or_is_not_there(folder, stream, tmp_path, capsys):
    output = tmp_path / "live.csv"
    assert watch(folder, "shade", stream.url("error"), output) == 2
    assert "open: Server returned 404 Not Found" in capsys.readouterr().err
    assert watch(folder, "shade", stream.url("silent"), output, "--decode_timeout", 3) == 1
    # Nothing holds the server back, so that sequences may be dropped.
    rows = output.read_text().count("\n") - 1
    said = f"decode: no answer for the seconds of --decode_timeout; {rows} rows are written"
    assert said in capsys.readouterr().err
    assert watch(folder, "shade", str(tmp_path), tmp_path / "b.csv") == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_with_whole_rows(folder, stream, tmp_path, number):
    output = tmp_path / "live.csv"
    stream.follow(output, header=1)
    command = [sys.executable, "-m", "pipelines", "predict", "--live", "--model", folder / "shade"]
    command += ["--input", stream.url("silent"), "--output", output]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        wait_until(lambda: process.poll() is not None or stream.rows() >= 3, 120)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    text = output.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert text.endswith("\n")
    assert len(rows) >= 3
    assert all(row["class"] in ("a", "b") for row in rows)
    assert "/silent: interrupted: " in out
    assert "secret" not in out


def test_newest_drops_older_items_but_not_the_last():
    taken, read = threading.Event(), threading.Event()

    def items():
        yield b"0"
        taken.wait()
        yield from (b"1", b"2", b"3")
        read.set()
        raise OSError("lost")

    found = newest(items())
    assert next(found) == (b"0", 0)
    taken.set()
    read.wait()
    assert next(found) == (b"3", 2)
    with pytest.raises(OSError, match="lost"):
        next(found)


def test_late_packets_are_dropped_up_to_a_keyframe(folder, monkeypatch, read_barcode):
    def receive(packets):
        for index, packet in enumerate(packets.container.demux(packets.stream)):
            is_late = 30 <= index < 50
            packets._waiting.put((time.monotonic() + (-1000 if is_late else 1000), packet))

    monkeypatch.setattr(live, "open_live", lambda address, timeout: av.open(address))
    monkeypatch.setattr(live._LivePackets, "_receive", receive)
    request = SimpleNamespace(address=str(folder / "stream.ts"), timeout=60)
    packets = live._LivePackets(request, lambda: None)
    frames = list(live._LiveVideo(packets).frames())
    indices = [read_barcode(frame.picture.to_rgb()) for frame in frames]
    assert indices == [*range(30), *range(60, FRAMES)]
    assert [index for index, f in zip(indices, frames, strict=True) if f.after_break] == [60]
    assert packets.dropped == 30


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"input": "7"}, "--input 7 is a camera or a stream, and needs --live"),
            ({"input": "/dev/video9"}, "needs --live"),
            ({"input": "rtsp://u:secret@host/1?k=hidden"}, "--input rtsp://host/1 is a camera"),
            ({"input": "HTTPS://u:se@cret@host:8/#hidden"}, "--input HTTPS://host:8/ is a camera"),
            ({"live": True, "input": "clips"}, "--live needs a camera .*, got clips"),
            ({"live": True, "input": "ftp://u:secret@host/"}, "got ftp://host/"),
            ({"live": True, "output": "a.txt"}, "a local .jsonl or .csv"),
            ({"live": True, "output": "s3://a/b.csv"}, "a local .jsonl or .csv"),
            (
                {"live": True, "per": "source", "run": RunOptions(workers=3)},
                "--per, --workers has no effect with --live",
            ),
        ],
    )
    def test_wrong_combinations(self, given, expected):
        fields = {"model": "run", "input": "0", "output": "a.csv", **given}
        with pytest.raises(UsageError, match=expected) as raised:
            PredictionOptions(**fields)
        assert "secret" not in str(raised.value)
        assert "hidden" not in str(raised.value)

    def test_footage_whose_name_is_a_number(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "7").mkdir()
        assert not PredictionOptions(model="run", input="7", output="a.csv").live

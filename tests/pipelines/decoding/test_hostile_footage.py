"""Footage made by somebody who means harm: nothing else is read, written or contacted, and the rest is built.

A canary lies beside the input, and its time of reading tells whether anybody looked; a listener on the
loopback interface hears whether anybody called.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from tfrecords_schema.example_pb2 import SequenceExample
from tfrecords_schema.records import read_file

FLAGS = ("--num_frames", "4", "--size", "24x32", "--splits", "train=1", "--max_failure_rate", "1")

# Whatever follows {target}: a path or an address.
SCRIPTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n",
    "key": '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:2,\n'
    "{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{target}'
    "</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "ismc": '<SmoothStreamingMedia MajorVersion="2" Duration="1"><StreamIndex Type="video" Url="{target}"/>'
    "</SmoothStreamingMedia>",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "m3u": "{target}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=control:{target}\na=rtpmap:96 H264/90000\n",
    "rtsptext": "rtsptext\n{target}\n",
    "avisynth": 'AVISource("{target}")\n',
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\n{target}\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
    "html": '<meta http-equiv="refresh" content="0; url={target}">',
    "lua": "dofile('{target}')",
    "shell": "#!/bin/sh\ncat {target}\n",
}
NAMES = (
    *(b"-rf.mp4", b"--output=x.mp4", b"a b.mp4", b"a'b.mp4", b'a"b.mp4', b"$(touch pwned).mp4"),
    *(b"`touch pwned`.mp4", b";touch pwned;.mp4", b"a|b&c.mp4", b"new\nline.mp4", b"tab\t.mp4"),
    *(
        b"\xff\xfe.mp4",
        b"%s%n%d.mp4",
        b"img%04d.mp4",
        b"*?[a].mp4",
        b"concat:a|b.mp4",
        b"http:x.mp4",
    ),
    *("ü\u202e\u0301.mp4".encode(), b"\\..\\x.mp4", b"~.mp4", b"a\x1b[31mb.mp4", b"{stem}.mp4"),
)


@pytest.fixture
def clip(write_video, tmp_path):
    return write_video(tmp_path / "whole.mp4", frames=8)


@pytest.fixture
def listener():
    """A port of the loopback interface, and whether anybody connected to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server

        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.fixture
def canary(clip, tmp_path):
    """A video that nobody may read; its first reading would change when it was read last (relatime)."""
    path = tmp_path / "secret/canary.mp4"
    path.parent.mkdir()
    shutil.copy(clip, path)
    os.utime(path, (0, 0))
    yield path
    assert path.stat().st_atime == 0


def run(*arguments, **settings) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pipelines", *map(os.fspath, arguments)]
    return subprocess.run(command, capture_output=True, timeout=300, check=False, **settings)


def build(source, output, *flags, verb="videos", **settings):
    """Records' data paths, failures by source, and the run, which must succeed."""
    done = run(verb, "--input", source, "--output", output, *FLAGS, *flags, **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    assert b"Traceback" not in done.stderr
    paths = [
        SequenceExample.FromString(stored.data)
        .context.feature["clip/data_path"]
        .bytes_list.value[0]
        for shard in sorted(output.glob("*.tfrecord"))
        for stored in read_file(shard)
    ]
    lines = (output / "failures.jsonl").read_text().splitlines()
    return paths, {failure["source"]: failure for failure in map(json.loads, lines)}, done


def alias_of(clip: bytes, target: str) -> bytes:
    """The MP4 file with a data reference in place of its own: "the samples lie in the file ``target``"."""
    name = target.encode()
    record = bytes(10) + b"\x01x" + bytes(26) + bytes(12) + b"\x01x" + bytes(62) + bytes(16)
    record += struct.pack(">HH", 1, 1) + bytes(16)
    record += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + b"\xff\xff\0\0"
    entry = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    place = clip.index(b"dref") + 12
    (old,) = struct.unpack_from(">I", clip, place)
    grown = bytearray(clip[:place] + entry + clip[place + old :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = grown.index(kind) - 4
        (size,) = struct.unpack_from(">I", grown, at)
        struct.pack_into(">I", grown, at, size + len(entry) - old)
    return bytes(grown)


def test_files_that_refer_to_others_are_refused_without_contact(
    clip, canary, listener, tmp_path
) -> None:
    folder, address = tmp_path / "in/act", f"http://127.0.0.1:{listener.getsockname()[1]}/x.mp4"
    folder.mkdir(parents=True)
    shutil.copy(clip, folder / "good.mp4")
    for kind, script in SCRIPTS.items():
        for target in (address, str(canary), "../../secret/canary.mp4", f"file:{canary}"):
            name = f"{kind}-{len(list(folder.iterdir()))}.mp4"
            (folder / name).write_text(script.format(target=target))
    for number, target in enumerate((str(canary), address)):
        (folder / f"alias-{number}.mp4").write_bytes(alias_of(clip.read_bytes(), target))
    hostile = {f"act/{path.name}" for path in folder.iterdir()} - {"act/good.mp4"}

    paths, failures, done = build(tmp_path / "in", tmp_path / "out")

    assert set(paths) == {b"act/good.mp4"}
    assert failures.keys() == hostile
    assert {failure["stage"] for failure in failures.values()} <= {"open", "decode"}
    assert str(canary).encode() not in (tmp_path / "out/failures.jsonl").read_bytes()
    assert f"{len(hostile)} sources failed".encode() in done.stdout


def test_alias_is_followed_when_ffmpeg_is_allowed_to(clip, tmp_path) -> None:
    """The refusal above is of something real."""
    other = tmp_path / "other.mp4"
    shutil.copy(clip, other)
    path = tmp_path / "alias.mov"
    path.write_bytes(alias_of(clip.read_bytes(), str(other)))
    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), container_options=options) as container:
        assert len(list(container.decode(video=0))) == 8


def test_any_file_name_is_only_a_name(clip, tmp_path) -> None:
    folder = os.fsencode(tmp_path / "in/act")
    os.makedirs(folder)
    for name in NAMES:
        shutil.copy(os.fsencode(clip), os.path.join(folder, name))
    os.symlink(folder, os.path.join(folder, b"loop"))
    os.symlink(b"/dev/zero", os.path.join(folder, b"zero.mp4"))
    os.mkfifo(os.path.join(folder, b"pipe.mp4"))
    os.mkdir(os.path.join(folder, b"folder.mp4"))

    paths, failures, done = build(tmp_path / "in", tmp_path / "out", cwd=tmp_path)

    assert sorted(set(paths)) == sorted(b"act/" + name for name in NAMES)
    assert {(name, f["stage"]) for name, f in failures.items()} == {
        ("act/zero.mp4", "list"),
        ("act/pipe.mp4", "list"),
    }
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "whole.mp4"}
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "written", ["../secret/canary.mp4", "a/../../secret/canary.mp4", "absolute"]
)
def test_manifest_paths_outside_its_folder_are_reported(written, clip, tmp_path) -> None:
    """A manifest may name files outside its folder; they are reported, and records have no absolute path."""
    outside = tmp_path / "secret/canary.mp4"
    outside.parent.mkdir()
    shutil.copy(clip, outside)
    (tmp_path / "in").mkdir()
    shutil.copy(clip, tmp_path / "in/good.mp4")
    written = str(outside) if written == "absolute" else written
    (tmp_path / "in/list.csv").write_text(f"path,label\ngood.mp4,a\n{written},a\n")

    paths, failures, done = build(tmp_path / "in/list.csv", tmp_path / "out")

    assert set(paths) == {b"good.mp4", str(outside).lstrip("/").encode()}
    assert not failures
    assert b"1 file of the manifest lies outside its folder" in done.stdout


def test_decompression_bombs_are_refused_before_decoding(tmp_path) -> None:
    """Small files that say they are huge: a PNG of zeros, a JPEG and a GIF with a forged header."""
    picture = np.zeros((64, 64, 3), np.uint8)
    png = bytearray(cv2.imencode(".png", picture)[1].tobytes())
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    jpeg = bytearray(cv2.imencode(".jpg", picture)[1].tobytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    plain = cv2.imencode(".png", picture)[1].tobytes()
    for drive, data in (("good", plain), ("png", bytes(png)), ("jpeg", bytes(jpeg))):
        folder = tmp_path / "in" / drive
        folder.mkdir(parents=True)
        for number in range(8):
            (folder / f"{number}.png").write_bytes(data)
        (folder / "annotation.json").write_text('[{"velocity": 1.5}]')

    paths, failures, _ = build(
        *(tmp_path / "in", tmp_path / "out", "--annotation", "annotation.json"),
        *("--label", "[0].velocity", "--frame_rate", "10"),
        verb="dashcam",
    )

    assert set(paths) == {b"good"}
    assert {name: failure["stage"] for name, failure in failures.items()} == {
        "png": "limits",
        "jpeg": "limits",
    }

"""Large footage on an object store is looked at by its ends, which say what the whole file says."""

import pytest

from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import DecodingFailure
from pipelines.storage import staging
from pipelines.storage.staging import Staging
from tfrecords_schema import storage
from tfrecords_schema.running import scratch

CLIPS = ("demo.mp4", "demo.webm", "demo.gif", "karma.mp4", "phone_vfr.mp4")

ENDINGS = {"matroska": "mkv", "mpegts": "ts"}


@pytest.fixture
def decoder(monkeypatch):
    monkeypatch.setattr(staging, "END_BYTES", 1 << 14)
    decoder = DecoderProcess(timeout=120, staging=Staging())
    yield decoder
    decoder.close()
    scratch.remove_scratch()


@pytest.fixture
def fetched(monkeypatch):
    """Whole objects, in the order in which they are fetched."""
    urls, download = [], storage.download
    monkeypatch.setattr(
        storage, "download", lambda url, path: (urls.append(url), download(url, path))
    )
    return urls


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips(bucket, data, decoder, name):
    url = bucket.put(name, (data / name).read_bytes())
    assert decoder.probe(url) == decoder.probe(str(data / name))


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264"), ("avi", "mpeg4")],
)
@pytest.mark.parametrize("whole", [False, True], ids=["ends", "whole"])
def test_containers(
    bucket, write_video, tmp_path, decoder, fetched, monkeypatch, container, codec, whole
):
    path = tmp_path / f"clip.{ENDINGS.get(container, container)}"
    write_video(path, frames=300, codec=codec, container=container, size=(144, 192))
    url = bucket.put(path.name, path.read_bytes())
    monkeypatch.setattr(staging, "END_BYTES", 1 << 30 if whole else 1 << 14)
    assert path.stat().st_size > 4 << 14
    assert decoder.probe(url) == decoder.probe(str(path))
    assert fetched == ([url] if whole else [])


def test_a_header_that_is_not_at_an_end(bucket, data, decoder, fetched, monkeypatch):
    """The index of this file is larger than what is fetched of its end, so the whole of it is fetched."""
    monkeypatch.setattr(staging, "END_BYTES", 64)
    url = bucket.put("karma.mp4", (data / "karma.mp4").read_bytes())
    assert decoder.probe(url) == decoder.probe(str(data / "karma.mp4"))
    assert fetched == [url]


def test_what_is_no_video_or_not_there(bucket, decoder):
    with pytest.raises(DecodingFailure) as caught:
        decoder.probe(bucket.put("x.mp4", b"no video" * 9999))
    assert caught.value.stage == "open"
    with pytest.raises(DecodingFailure, match="there is no such object") as caught:
        decoder.probe(f"{bucket.url}/none.mp4")
    assert caught.value.stage == "staging"

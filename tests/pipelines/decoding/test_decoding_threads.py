"""A shard decoded by several threads is the one that a single thread gives, whatever the footage is like."""

import dataclasses
import random
from fractions import Fraction

import av
import pytest

from pipelines.build.output import OutputFolder
from pipelines.build.shard import ShardBuilder
from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.containers import choose_stream, open_container, use_threads
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.options.dataset import DatasetOptions, ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Shard, Source
from tests.pipelines.conftest import Recorder
from tfrecords_schema.spec import LabelSpec, SequenceSpec

OPTIONS = DatasetOptions(
    name="actions",
    sampling=SamplingOptions(num_frames=5, stride=2),
    image=ImageOptions(size=(24, 32)),
)
FOOTAGE = {
    "h264": ("a.mp4", {"b_frames": 2}),
    "one group of pictures": ("a.mkv", {"b_frames": 3, "gop": 1000}),
    "hevc": ("a.mp4", {"codec": "libx265", "b_frames": 2}),
    "variable rate": ("a.mp4", {"times": [i * 40 + i % 3 for i in range(90)]}),
    "rotated": ("a.mp4", {"rotation": 90}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9"}),
    "mpeg4": ("a.avi", {"codec": "mpeg4"}),
    "transport stream": ("a.ts", {"b_frames": 2}),
}
SPAN = {
    "whole": {},
    "beginning": {"end_slot": 10},
    "middle": {"first_slot": 9, "end_slot": 31},
}


@pytest.fixture(scope="module")
def decoder():
    decoder = DecoderProcess(timeout=60)
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def footage(write_video, tmp_path_factory):
    def make(kind):
        name, settings = FOOTAGE[kind]
        folder = tmp_path_factory.mktemp("footage")
        return write_video(folder / name, **{"frames": 90, "size": (96, 128), **settings})

    return make


def source(path):
    return Source(id=path.name, path=str(path), data_path=path.name, group="a", labels=("run",))


def spec(sampling):
    return SequenceSpec(
        num_frames=sampling.num_frames,
        frame_rate=sampling.frame_rate and float(sampling.frame_rate),
        image=OPTIONS.image.spec,
        label=LabelSpec(task="classification", class_names=("run",)),
    )


def build(folder, segment, decoder, threads, sampling=OPTIONS.sampling):
    """The shard's bytes, its report, and what its listener heard."""
    options = dataclasses.replace(OPTIONS, sampling=sampling)
    output, listener = OutputFolder(str(folder)), Recorder()
    with output.locked():
        output.begin({}, {}, [])
        builder = ShardBuilder(output=output, spec=spec(sampling), options=options, versions={})
        shard = Shard(split="train", index=0, count=1, segments=(segment,))
        report = builder.build(shard, decoder, listener, threads=threads)
    return (folder / shard.file).read_bytes(), report, listener.total, listener.failures


def request_of(path, sampling=OPTIONS.sampling, threads=1, **span):
    return BuildRequest(
        segment=Segment(seconds=60.0, source=source(path), **span),
        spec=spec(sampling),
        dataset_name="actions",
        sampling=sampling,
        image=OPTIONS.image,
        label_indices=(0,),
        threads=threads,
    )


def is_built_alike(tmp_path, segment, decoder, **options):
    one = build(tmp_path / "one", segment, decoder, 1, **options)
    several = build(tmp_path / "several", segment, decoder, 3, **options)
    assert one == several
    return one


@pytest.mark.parametrize("span", SPAN)
@pytest.mark.parametrize("kind", FOOTAGE)
def test_undamaged_footage_is_the_same_with_threads(kind, span, footage, decoder, tmp_path):
    segment = Segment(seconds=60.0, source=source(footage(kind)), **SPAN[span])
    for rate in (None, Fraction(10), Fraction(25)):
        sampling = SamplingOptions(num_frames=5, frame_rate=rate, stride=2)
        folder = tmp_path / str(rate)
        data, report, total, failures = is_built_alike(folder, segment, decoder, sampling=sampling)
        assert total == report.records > 0
        assert failures == []
    assert len(data) > 1000


@pytest.mark.parametrize("kind", ["h264", "one group of pictures"])
def test_undamaged_footage_uses_threads(kind, footage, decoder):
    path = footage(kind)
    with open_container(str(path)) as container:
        stream = choose_stream(container)
        use_threads(stream, 3)
        assert stream.codec_context.thread_count == 3
    for span in SPAN.values():
        for rate in (None, Fraction(5), Fraction(25)):
            sampling = SamplingOptions(num_frames=3, frame_rate=rate)
            request = request_of(path, sampling=sampling, threads=3, **span)
            records = []
            assert decoder.build(request, records.append).truncated is None
            assert records


def spoil(path, seed):
    """Damages the file somewhere: overwritten, zeroed, cut out, cut off."""
    draw = random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 3))):
        begin, length = draw.randrange(len(data)), draw.choice((1, 4, 40, 400))
        how = draw.randrange(4)
        if how == 0:
            data[begin : begin + length] = draw.randbytes(len(data[begin : begin + length]))
        elif how == 1:
            data[begin : begin + length] = bytes(len(data[begin : begin + length]))
        elif how == 2:
            del data[begin : begin + length]
        else:
            del data[max(begin, len(data) // 2) :]
    spoiled = path.with_stem(f"{path.stem}-{seed}")
    spoiled.write_bytes(data)
    return spoiled


@pytest.mark.parametrize("kind", ["h264", "one group of pictures", "hevc"])
def test_damaged_footage_fails_with_threads(kind, footage, decoder, tmp_path):
    path, noticed = footage(kind), 0
    sparse = SamplingOptions(num_frames=2, frame_rate=Fraction(3))
    for seed in range(6):
        segment = Segment(seconds=60.0, source=source(spoil(path, seed)))
        sampling = sparse if seed % 3 == 0 else OPTIONS.sampling
        report = is_built_alike(tmp_path / str(seed), segment, decoder, sampling=sampling)[1]
        noticed += bool(report.failures)
    assert noticed


def test_packet_with_wrong_time_fails_with_threads(footage, decoder, tmp_path):
    """Ranks must not depend on how far ahead packets are read."""
    path = footage("one group of pictures")
    times, places = packets(path)
    data = bytearray(path.read_bytes())
    time = data.index(b"\x81", places[45]) + 1  # behind the number of the track
    data[time : time + 2] = bytes(2)
    path.write_bytes(data)
    assert packets(path)[0] == [*times[:45], 0, *times[46:]]
    report = is_built_alike(tmp_path, Segment(seconds=60.0, source=source(path)), decoder)[1]
    assert report.segments.unordered_frames == 1


def packets(path):
    """Presentation times, and places in the file."""
    with av.open(str(path)) as container:
        found = [packet for packet in container.demux(video=0) if packet.size]
        return [packet.pts for packet in found], [packet.pos for packet in found]


def test_threads_report_damage_before_the_end(footage, decoder, tmp_path):
    path = footage("h264")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 400] = bytes(400)
    path.write_bytes(data)
    request = request_of(path)
    records = []
    assert decoder.build(request, records.append).truncated is not None
    before = []
    with pytest.raises(DecodingFailure):
        decoder.build(dataclasses.replace(request, threads=3), before.append)
    assert len(before) < len(records)

"""Decoder processes from outside: what they answer, and what is left when they misbehave."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.decoding.client import DecoderPool, DecoderProcess
from pipelines.decoding.protocol import (
    BuildRequest,
    DecodingFailure,
    IndexRequest,
    SegmentResult,
)
from pipelines.decoding.segments import build_segment, find_boundaries, probe_file
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.runners.python_child import python_command
from tests.processes import wait_until
from tfrecords_schema.codec import to_json
from tfrecords_schema.spec import LabelSpec, SequenceSpec

ROOT = Path(__file__).parents[3]
PRELUDE = (
    f"""
import json, os, signal, struct, sys, time

sys.path.append({str(ROOT)!r})
CHILD = {python_command("pipelines.decoding.child")!r}
"""
    + """

def send(kind, payload=b""):
    sys.stdout.buffer.write(struct.pack("<cI", kind, len(payload)) + payload)
    sys.stdout.buffer.flush()

def receive():
    _, length = struct.unpack("<cI", sys.stdin.buffer.read(5))
    return json.loads(sys.stdin.buffer.read(length))

def behave():
    os.execv(sys.executable, [*CHILD, sys.argv[-1]])

"""
)
RESULT = json.dumps(to_json(SegmentResult())).encode()


def make_source(path, name="clip"):
    return Source(id=name, path=str(path), data_path=name, group="g", labels=("a",))


def make_request(path, name="clip", classes=("a",)):
    image = ImageOptions(size=(12, 16))
    sampling = SamplingOptions(num_frames=5, frame_rate=Fraction(10))
    return BuildRequest(
        segment=Segment(source=make_source(path, name)),
        spec=SequenceSpec(
            num_frames=5,
            frame_rate=10.0,
            image=image.spec,
            label=LabelSpec(task="classification", class_names=tuple(classes)),
        ),
        dataset_name="test",
        sampling=sampling,
        image=image,
        label_indices=(0,),
    )


def build_here(request):
    """Records and result without a child."""
    records = []
    return records, build_segment(request, records.append, lambda: None)


def build_there(decoder, request):
    records = []
    result = decoder.build(request, records.append)
    return records, result


def alive(pid):
    """Returns True if a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def clip(write_video, tmp_path):
    return write_video(tmp_path / "clip.mp4", frames=50, b_frames=2)


@pytest.fixture
def start(tmp_path):
    """Makes decoders whose child runs some lines once, and the real program from then on."""
    with contextlib.ExitStack() as stack:

        def start(lines, *, timeout=20.0, every_time=False, memory_limit=2**30):
            script, marker = tmp_path / "child.py", tmp_path / "misbehaved"
            once = "" if every_time else f"if os.path.exists({str(marker)!r}):\n    behave()\n"
            note = f"open({str(marker)!r}, 'a').write(str(os.getpid()) + '\\n')\n"
            script.write_text(PRELUDE + once + note + textwrap.dedent(lines))
            decoder = DecoderProcess(
                timeout=timeout,
                memory_limit=memory_limit,
                program=(sys.executable, str(script)),
            )
            stack.callback(decoder.close)
            start.pids = lambda: [int(line) for line in marker.read_text().split()]
            return decoder

        yield start


@pytest.fixture
def decoder():
    decoder = DecoderProcess(timeout=20)
    yield decoder
    decoder.close()


class TestRealChild:
    def test_build_matches_in_process_results(self, decoder, clip):
        assert decoder.probe(str(clip)) == probe_file(str(clip))
        request = make_request(clip)
        records, result = build_there(decoder, request)
        assert (records, result) == build_here(request)
        assert len(records) == 4
        index = IndexRequest(source=make_source(clip), segment_length=0.5)
        assert decoder.index(index) == find_boundaries(index) != ()

    def test_one_child_answers_many_requests(self, decoder, clip):
        for _ in range(3):
            decoder.probe(str(clip))
            pid = decoder._child.pid
            build_there(decoder, make_request(clip))
            assert decoder._child.pid == pid

    def test_bad_file_fails_without_restarting_child(self, decoder, clip, tmp_path):
        decoder.probe(str(clip))
        pid = decoder._child.pid
        text = tmp_path / "text.mp4"
        text.write_text("words")
        for ask in (
            lambda: decoder.probe(str(text)),
            lambda: build_there(decoder, make_request(text)),
            lambda: decoder.index(IndexRequest(source=make_source(text), segment_length=1)),
        ):
            with pytest.raises(DecodingFailure) as failure:
                ask()
            assert failure.value.stage == "open"
        assert build_there(decoder, make_request(clip)) == build_here(make_request(clip))
        assert decoder._child.pid == pid

    def test_build_accepts_paths_that_are_not_utf8(self, decoder, clip):
        path = os.fsdecode(os.fsencode(clip.parent) + b"/\xff\xfe.mp4")
        clip.rename(path)
        assert decoder.probe(path).duration == 2.0
        request = make_request(path, name="\udcff.mp4")
        assert build_there(decoder, request) == build_here(request)

    def test_next_request_works_after_consumer_raises(self, decoder, clip):
        def refuse(record):
            raise OSError(28, "No space left on device")

        for error in (refuse, lambda record: 1 / 0):
            with pytest.raises((OSError, ZeroDivisionError)):
                decoder.build(make_request(clip), error)
            assert build_there(decoder, make_request(clip)) == build_here(make_request(clip))

    def test_close_ends_child_and_can_be_repeated(self, decoder, clip):
        decoder.probe(str(clip))
        child = decoder._child
        decoder.close()
        assert child.poll() is not None
        assert not alive(child.pid)
        decoder.close()

    def test_close_works_before_first_use(self):
        decoder = DecoderProcess(timeout=1)
        decoder.close()
        decoder.close()

    @pytest.mark.parametrize("sign", [signal.SIGSEGV, signal.SIGKILL])
    def test_request_replaces_child_that_died_between_requests(self, sign, decoder, clip):
        decoder.probe(str(clip))
        os.kill(decoder._child.pid, sign)
        wait_until(lambda: decoder._child.poll() is not None)
        assert build_there(decoder, make_request(clip)) == build_here(make_request(clip))

    def test_child_ends_when_parent_is_killed(self, clip):
        program = (
            "import sys, time\n"
            "from pipelines.decoding.client import DecoderProcess\n"
            "decoder = DecoderProcess(timeout=20)\n"
            "decoder.probe(sys.argv[1])\n"
            "print(decoder._child.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(clip)], stdout=subprocess.PIPE, cwd=ROOT
        ) as parent:
            pid = int(parent.stdout.readline())
            assert alive(pid)
            parent.kill()
        wait_until(lambda: not alive(pid))

    def test_child_ends_during_request_when_parent_is_killed(self, clip):
        """A parent killed while its child decodes without end."""
        child = (
            "import sys, time\n"
            "from pipelines.decoding import child\n"
            "child.probe_file = lambda *_: time.sleep(60)\n"
            "print('ready', file=sys.stderr, flush=True)\n"
            "child.main()\n"
        )
        parent_program = (
            "import sys, threading\n"
            "from pipelines.decoding.client import DecoderProcess\n"
            "decoder = DecoderProcess(timeout=60, program=(sys.executable, '-c', sys.argv[1]))\n"
            "threading.Thread(target=decoder.probe, args=('x',), daemon=True).start()\n"
            "while not decoder._child: pass\n"
            "while not decoder._child.last_error(): pass\n"
            "print(decoder._child.pid, flush=True)\n"
            "threading.Event().wait()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", parent_program, child], stdout=subprocess.PIPE, cwd=ROOT
        ) as parent:
            pid = int(parent.stdout.readline())
            assert alive(pid)
            parent.kill()
        wait_until(lambda: not alive(pid))


# What the child does with its first request; a pattern that its failure's reason must match.
MISBEHAVIOUR = {
    "segfault": ("receive(); os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    "segfault at start": ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    "abort": ("receive(); os.abort()", "killed by SIGABRT"),
    "nameless signal": ("receive(); os.kill(os.getpid(), 40)", "killed by signal 40"),
    "last words": (
        "receive(); sys.exit('the disk is on fire')",
        "exit code 1: the disk is on fire",
    ),
    "traceback": ("receive(); 1 / 0", "exit code 1: ZeroDivisionError"),
    "endless last words": (
        "receive(); sys.stderr.write('x' * 10_000_000 + '\\nthe end'); sys.exit(3)",
        "exit code 3: the end",
    ),
    "half-way": ("receive(); send(b'R', b'record'); send(b'P'); sys.exit(0)", "exit code 0"),
    "half a message": (
        "receive(); sys.stdout.buffer.write(b'R\\xff\\0\\0\\0half'); sys.exit(0)",
        "exit code 0",
    ),
    "garbage": (
        "receive(); print('ffmpeg says hello'); sys.stdout.flush(); time.sleep(60)",
        "bytes that are not a message",
    ),
    "huge length": (
        "receive(); sys.stdout.buffer.write(b'R' + b'\\xff' * 4)\n"
        "sys.stdout.flush(); time.sleep(60)",
        "bytes that are not a message",
    ),
    "no JSON": (
        "receive(); send(b'D', b'{\"seq'); time.sleep(60)",
        "answer that cannot be read",
    ),
    "no UTF-8": (
        "receive(); send(b'D', b'\\xff\\xfe\\0'); time.sleep(60)",
        "answer that cannot be read",
    ),
    "no object": (
        "receive(); send(b'D', b'[1, 2]'); time.sleep(60)",
        "answer that cannot be read",
    ),
    "null": ("receive(); send(b'D', b'null'); time.sleep(60)", "answer that cannot be read"),
    "no result": (
        "receive(); send(b'D', b'{\"sequences\": 1}'); time.sleep(60)",
        "answer that cannot be read",
    ),
    "wrong fields": (
        "receive(); send(b'D', b'{\"speed\": 1}'); time.sleep(60)",
        "answer that cannot be read",
    ),
    "no failure": (
        "receive(); send(b'F', b'{\"why\": 1}'); time.sleep(60)",
        "answer that cannot be read",
    ),
}
SILENCE = {
    "silence": "receive(); time.sleep(60)",
    "silence after a record": "receive(); send(b'R', b'record'); time.sleep(60)",
    "silence in a message": (
        "receive(); sys.stdout.buffer.write(b'R\\xff\\0\\0\\0half'); sys.stdout.flush()\n"
        "time.sleep(60)"
    ),
    "deaf to SIGTERM": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "receive(); time.sleep(60)"
    ),
    "stopped": "receive(); os.kill(os.getpid(), signal.SIGSTOP)",
    "busy": "receive()\nwhile True: pass",
}


class TestMisbehaviour:
    @pytest.mark.parametrize("name", MISBEHAVIOUR)
    def test_misbehaving_child_fails_and_next_request_works(self, name, start, clip):
        lines, reason = MISBEHAVIOUR[name]
        decoder = start(lines)
        request = make_request(clip)
        began = time.monotonic()
        with pytest.raises(DecodingFailure, match=reason) as failure:
            build_there(decoder, request)
        assert time.monotonic() - began < 10
        assert failure.value.stage == "process"
        assert len(failure.value.reason) < 300
        (pid,) = start.pids()
        assert not alive(pid)
        assert build_there(decoder, request) == build_here(request)

    @pytest.mark.parametrize("name", SILENCE)
    def test_silent_child_fails_after_timeout(self, name, start, clip):
        decoder = start(SILENCE[name], timeout=1.5, every_time=True)
        began = time.monotonic()
        with pytest.raises(DecodingFailure, match=r"no progress for 1\.5 s") as failure:
            build_there(decoder, make_request(clip))
        assert 1.5 <= time.monotonic() - began < 10
        assert failure.value.stage == "process"
        (pid,) = start.pids()
        assert not alive(pid)

    def test_child_that_does_not_read_fails_after_timeout(self, start, clip):
        """A request may be longer than a pipe holds."""
        decoder = start("time.sleep(60)", timeout=1.0, every_time=True)
        request = make_request(clip, classes=[f"class {i:06}" for i in range(50_000)])
        with pytest.raises(DecodingFailure, match="no progress"):
            build_there(decoder, request)
        decoder = start("sys.stdin.close(); time.sleep(0.5); sys.exit('deaf')", every_time=True)
        with pytest.raises(DecodingFailure, match="deaf"):
            build_there(decoder, request)

    def test_long_request_arrives(self, decoder, clip):
        request = make_request(clip, classes=["a", *(f"class {i:06}" for i in range(50_000))])
        assert build_there(decoder, request) == build_here(request)

    def test_records_of_any_length_arrive(self, start, clip):
        """Also those that fill the pipe several times over, and those that come in drops."""
        lengths = [0, 1, 2**16 + 1, 3 * 2**20, 5]
        decoder = start(
            "receive()\n"
            f"for length in {lengths}:\n"
            "    send(b'R', (bytes(range(251)) * (length // 251 + 1))[:length])\n"
            "for byte in struct.pack('<cI', b'R', 3) + b'end':\n"
            "    sys.stdout.buffer.write(bytes([byte]))\n"
            "    sys.stdout.buffer.flush()\n"
            f"send(b'D', {RESULT!r})\n"
            "time.sleep(60)"
        )
        records, _ = build_there(decoder, make_request(clip))
        assert [len(record) for record in records] == [*lengths, 3]
        for record in records[:-1]:
            assert record == (bytes(range(251)) * (len(record) // 251 + 1))[: len(record)]
        assert records[-1] == b"end"

    def test_progress_extends_timeout(self, start, clip):
        lines = f"""
            receive()
            for _ in range(10):
                time.sleep(0.3)
                send(b'P')
            send(b'D', {RESULT!r})
            time.sleep(60)
        """
        decoder = start(lines, timeout=1.5)
        began = time.monotonic()
        records, result = build_there(decoder, make_request(clip))
        assert time.monotonic() - began >= 3
        assert (records, result.sequences) == ([], 0)

    def test_unrequested_record_fails(self, start, clip):
        decoder = start("receive(); send(b'R', b'record'); time.sleep(60)")
        with pytest.raises(DecodingFailure, match="record that was not asked for") as failure:
            decoder.probe(str(clip))
        assert failure.value.stage == "process"
        assert decoder.probe(str(clip)) == probe_file(str(clip))

    @pytest.mark.parametrize("pause", [0.0, 0.3])
    def test_second_answer_is_not_used_for_next_request(self, pause, start, clip):
        lines = f"receive(); send(b'D', {RESULT!r}); time.sleep({pause})\nsend(b'D', {RESULT!r})\n"
        decoder = start(lines + "time.sleep(60)")
        build_there(decoder, make_request(clip))
        wait_until(lambda: not decoder._child.is_ready())  # the second answer is there
        assert build_there(decoder, make_request(clip)) == build_here(make_request(clip))

    def test_each_death_has_its_own_last_error(self, start, clip):
        lines = "receive(); sys.exit(f'process {os.getpid()} is done')"
        decoder = start(lines, every_time=True)
        for count in range(1, 4):
            with pytest.raises(DecodingFailure) as failure:
                build_there(decoder, make_request(clip))
            assert len(start.pids()) == count
            assert failure.value.reason == (
                f"the decoder ended with exit code 1: process {start.pids()[-1]} is done"
            )

    @pytest.mark.parametrize(
        ("error", "stage", "reason"),
        [
            (
                "TypeError('no such argument:\\nerrors')",
                "process",
                "TypeError: no such argument: errors",
            ),
            ("KeyError('frame')", "process", "KeyError: 'frame'"),
            ("MemoryError('here')", "limits", "MemoryError: here"),
        ],
    )
    def test_failure_describes_exception_in_child(self, start, clip, error, stage, reason):
        lines = f"""
            from pipelines.decoding import child

            def probe_file(path, options):
                raise {error}

            child.probe_file = probe_file
            child.main()
        """
        decoder = start(lines)
        with pytest.raises(DecodingFailure) as failure:
            decoder.probe(str(clip))
        assert failure.value.stage == stage
        assert failure.value.reason.partition(" (child.py:")[0] == reason
        assert decoder.probe(str(clip)) == probe_file(str(clip))

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            (
                "raise ImportError('cannot import Discard')",
                "ended with exit code 1: ImportError: cannot import Discard",
            ),
            (
                "raise ImportError('Numpy is\\nbroken.\\n\\nSo it is.\\n')",
                "ended with exit code 1: ImportError: Numpy is broken. So it is.",
            ),
            (
                "import threading\nfrom pipelines.decoding import child\n"
                "def answer(*_): raise SystemError('planted')\n"
                "child._answer = answer\nchild.main()",
                "ended with exit code 1: SystemError: planted",
            ),
        ],
    )
    def test_failure_describes_exception_that_ends_child(self, start, clip, lines, said):
        decoder = start(lines)
        with pytest.raises(DecodingFailure) as failure:
            decoder.probe(str(clip))
        assert (failure.value.stage, failure.value.reason) == ("process", f"the decoder {said}")

    def test_missing_program_fails(self, clip):
        decoder = DecoderProcess(timeout=5, program=("/nonexistent/decoder",))
        with pytest.raises(FileNotFoundError):
            decoder.probe(str(clip))
        decoder.close()

    @pytest.mark.parametrize("kind", ["python", "native"])
    def test_child_out_of_memory_dies_alone(self, kind, start, clip):
        allocate = {
            "python": "hoard.append(bytearray(50_000_000))",
            "native": "hoard.append(av.VideoFrame(4000, 4000, 'rgb24'))",
        }[kind]
        lines = f"""
            import av
            from pipelines.decoding import child

            def build(*_):
                hoard = []
                while True:
                    {allocate}

            child.build_segment = build
            child.main()
        """
        decoder = start(lines, memory_limit=2**30)
        with pytest.raises(DecodingFailure) as failure:
            build_there(decoder, make_request(clip))
        assert failure.value.stage in ("limits", "process")
        (pid,) = start.pids()
        assert not alive(pid)
        assert build_there(decoder, make_request(clip)) == build_here(make_request(clip))


class TestPool:
    def test_pool_never_exceeds_its_size(self, clip):
        pool = DecoderPool(2, timeout=20)
        request, expected = make_request(clip), build_here(make_request(clip))
        lock, at_work, most, pids = threading.Lock(), 0, 0, set()

        def work(_):
            nonlocal at_work, most
            with pool.borrow() as decoder:
                with lock:
                    at_work += 1
                    most = max(most, at_work)
                answer = build_there(decoder, request)
                with lock:
                    pids.add(decoder._child.pid)
                    at_work -= 1
            return answer

        try:
            with ThreadPoolExecutor(12) as threads:
                assert all(answer == expected for answer in threads.map(work, range(60)))
            assert most == 2
            assert len(pids) == 2
            assert all(alive(pid) for pid in pids)
        finally:
            pool.close()
        assert not any(alive(pid) for pid in pids)
        pool.close()

    def test_pool_takes_decoder_back_after_failure(self, clip, tmp_path):
        pool = DecoderPool(1, timeout=20)
        try:
            for _ in range(3):
                with pytest.raises(DecodingFailure), pool.borrow() as decoder:
                    decoder.probe(str(tmp_path / "none.mp4"))
            with pool.borrow() as decoder:
                assert decoder.probe(str(clip)) == probe_file(str(clip))
        finally:
            pool.close()

    def test_pool_starts_children_on_demand(self):
        pool = DecoderPool(64, timeout=20)
        assert not any(decoder._child for decoder in pool._all)
        pool.close()

"""Predicts a camera or a stream while it lasts: ``pipelines predict --live``.

Whenever the model is ready it gets the newest sequence. Those that came before it are dropped, not delayed.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import chain
from typing import Any

import cv2
import numpy as np

from pipelines.build.shard import record_request
from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import LIVE_STAMP, DecodingFailure, LiveRequest
from pipelines.errors import FailedWorkError, UserError
from pipelines.images.text import draw_lines
from pipelines.options.verbs import PredictionOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.prediction.captions import describe_answer
from pipelines.prediction.export_info import Export
from pipelines.prediction.formats import RowFormat
from pipelines.prediction.lines import json_line
from pipelines.prediction.publish import make_window
from pipelines.prediction.rows import Row, RowOptions, make_rows
from tfrecords_schema import storage
from tfrecords_schema.examples import SequenceRecord, decode_record, encode_record
from tfrecords_schema.fake import fake_record
from tfrecords_schema.running import interruption


def predict_live(
    options: PredictionOptions,
    export: Export,
    rows: RowOptions,
    row_format: RowFormat,
    load: Callable[[], Any],
    say: Callable[[str], None],
) -> None:
    """Predicts with the `ServedModel` of ``load`` until the stream ends, fails or the user interrupts."""
    signals, spec = ", ".join(signal.name for signal in export.spec.signals), export.spec
    if signals or export.options.sampling.sampling != "windows":
        raise UserError(
            f"--live: the model needs {f'signals ({signals})' if signals else 'whole clips'}. A stream has "
            "none: give a model of images alone, trained with --sampling windows"
        )
    name, output, wait = options.address, options.output, options.run.decode_timeout
    drawn = options.overlay and os.path.join(options.overlay, f"{os.path.basename(output)}.mjpeg")
    for path in filter(None, (output, drawn)):
        if os.path.lexists(path):
            raise UserError(f"{path} exists. Name another --output, or remove it")
        storage.make_folder(os.path.dirname(path))
    source = Source(id=name, path="", data_path=name, group=name)
    build = record_request(Segment(source=source), spec, export.options)
    model, count, dropped = load(), 0, 0
    model.predict([encode_record(fake_record(spec, 0), spec)])  # the first call takes longer
    say(f"{name}: waiting for up to {wait:g} s (--decode_timeout)")
    decoder = DecoderProcess(timeout=3 * wait + 10)  # it starts, and opening has two steps
    request = LiveRequest(**vars(build), address=options.input, timeout=wait)

    def answered() -> Iterator[Row]:
        nonlocal count, dropped
        for stamped, dropped in newest(decoder.records(request)):
            arrival, origin, lost = LIVE_STAMP.unpack_from(stamped)
            (answer,) = model.predict([record := stamped[LIVE_STAMP.size :]])
            latency = time.monotonic() - arrival
            (row,) = make_rows(name, [make_window(answer, origin)], rows)
            yield row  # and goes on once it is written
            count += 1
            said = describe_answer(json_line(row, rows.output), rows.output.label.offsets)
            if video is not None:
                video.write(_draw(decode_record(record, spec), said))
            say(
                f"{row.place['start']:.2f} to {row.place['end']:.2f} s: {', '.join(said)}; latency "
                f"{latency * 1000:.0f} ms; dropped {dropped} sequences, {lost} frames"
            )

    ending = "the stream has ended"
    try:
        answers = answered()
        first = [row for row in [next(answers, None)] if row]
        # Without a buffer each row is one call of the system, so that none is written in part.
        with (
            open(output, "xb", buffering=0) as file,
            open(drawn, "xb", buffering=0) if drawn else nullcontext() as video,
        ):
            row_format.write(chain(first, answers), file)
    except (Exception, KeyboardInterrupt) as error:
        # Libraries may turn the interruption into an error of their own.
        if isinstance(error, KeyboardInterrupt) or interruption.is_received():
            interruption.lift_time_limit()
            ending = "interrupted"
        elif isinstance(error, (DecodingFailure, OSError)):
            said = f"--input {name}: {getattr(error, 'strerror', None) or error}; {count} rows are written"
            is_broken = isinstance(error, DecodingFailure) and error.stage != "open"
            raise (FailedWorkError if is_broken else UserError)(said) from error
        else:
            raise
    finally:
        decoder.close()
    say(f"{name}: {ending}: {count} rows in {output}; {dropped} sequences dropped")


def newest(items: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yields the newest item whenever it is asked, and how many were dropped so far; the last one always."""
    slot, dropped = queue.Queue[bytes | Exception | None](1), 0

    def read() -> None:
        nonlocal dropped
        try:
            for item in items:
                with suppress(queue.Empty):
                    slot.get_nowait()
                    dropped += 1
                slot.put(item)
            slot.put(None)
        except Exception as error:
            slot.put(error)

    threading.Thread(target=read, daemon=True).start()
    while isinstance(found := slot.get(), bytes):
        yield found, dropped
    if found is not None:
        raise found


def _draw(record: SequenceRecord, lines: Sequence[str]) -> bytes:
    """Returns a JPEG file of the last frame of a sequence with lines of text."""
    encoded = np.frombuffer(record.frames[record.valid_frames - 1], np.uint8)
    pixels: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    scale = max(1, 360 / len(pixels))  # so that text can be read
    pixels = draw_lines(cv2.resize(pixels, None, None, scale, scale), lines)
    return cv2.imencode(".jpg", pixels)[1].tobytes()

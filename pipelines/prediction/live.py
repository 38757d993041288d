"""Predicts a camera or a stream while it lasts: ``pipelines predict --live``.

Whenever the model is ready it gets the newest sequence. Those that came before it are dropped, not delayed.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from pipelines.build.shard import record_request
from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import LIVE_STAMP, Caption, DecodingFailure, LiveRequest
from pipelines.errors import UserError
from pipelines.options.verbs import PredictionOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.prediction.captions import describe_answer
from pipelines.prediction.export_info import Export
from pipelines.prediction.formats import RowFormat
from pipelines.prediction.lines import json_line
from pipelines.prediction.publish import make_window
from pipelines.prediction.rows import Row, RowOptions, make_rows
from tfrecords_schema import storage
from tfrecords_schema.examples import encode_record
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
    """Predicts until the stream ends or the user interrupts; says each written row.

    ``load`` returns the `ServedModel`.

    Raises:
        UserError: if the model needs more than a stream has; an output exists or cannot be written; or the
            stream cannot be opened, or fails.
    """
    signals, spec = ", ".join(signal.name for signal in export.spec.signals), export.spec
    if signals or export.options.sampling.sampling != "windows":
        raise UserError(
            f"--live: the model needs {f'signals ({signals})' if signals else 'whole clips'}, which a stream "
            "does not have. Give a model of images alone, trained with --sampling windows"
        )
    name, output, wait = options.address, options.output, options.run.decode_timeout
    overlay = options.overlay and os.path.join(options.overlay, f"{Path(output).stem}.mp4")
    for path in filter(None, (output, overlay)):
        if os.path.lexists(path):
            raise UserError(
                f"{path} exists, and live rows are not made twice. Remove it, or name another"
            )
        storage.make_folder(os.path.dirname(path))
    source = Source(id=name, path="", data_path=name, group=name)
    request = LiveRequest(
        build=record_request(Segment(source=source), spec, export.options),
        address=options.input,
        timeout=wait,
        overlay=overlay and os.path.abspath(overlay),
    )
    model, count, dropped = load(), 0, 0
    model.predict([encode_record(fake_record(spec, 0), spec)])  # the first call takes longer
    say(f"{name}: waiting for up to {wait:g} s (--decode_timeout)")
    decoder = DecoderProcess(timeout=3 * wait)  # opening has two steps

    def answered() -> Iterator[Row]:
        nonlocal count, dropped
        for stamped, dropped in newest(decoder.watch(request)):
            arrival, origin, lost = LIVE_STAMP.unpack_from(stamped)
            (answer,) = model.predict([stamped[LIVE_STAMP.size :]])
            latency = time.monotonic() - arrival
            (row,) = make_rows(name, [make_window(answer, origin)], rows)
            yield row  # and goes on once it is written
            count += 1
            start, end = row.place["start"], row.place["end"]
            said = describe_answer(json_line(row, rows.output), rows.output.label.offsets)
            if request.overlay is not None:
                decoder.show_caption(Caption(start=start, lines=said))
            say(
                f"{start:.2f} to {end:.2f} s: {', '.join(said)}; latency {latency * 1000:.0f} ms; dropped "
                f"{dropped} sequences, {lost} frames"
            )

    end = "the stream has ended"
    try:
        answers = answered()
        first = [row for row in [next(answers, None)] if row]
        with open(output, "xb", buffering=0) as file:  # each row is one call of the system
            row_format.write(chain(first, answers), file)
    except (Exception, KeyboardInterrupt) as error:
        # Libraries may turn the interruption into an error of their own.
        if isinstance(error, KeyboardInterrupt) or interruption.is_received():
            interruption.lift_time_limit()
            end = "interrupted"
        elif isinstance(error, (DecodingFailure, OSError)):
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--input {name}: {reason}; {count} rows are written") from error
        else:
            raise
    finally:
        decoder.abort()
    say(f"{name}: {end}: {count} rows in {output}; {dropped} sequences dropped")


def newest(items: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yields the newest item whenever it is asked, and how many were dropped so far; the last one always."""
    slot, dropped = queue.Queue[bytes | Exception | None](1), 0

    def read() -> None:
        nonlocal dropped
        end = None
        try:
            for item in items:
                with suppress(queue.Empty):
                    slot.get_nowait()
                    dropped += 1
                slot.put(item)
        except Exception as error:
            end = error
        slot.put(end)

    threading.Thread(target=read, daemon=True).start()
    while isinstance(found := slot.get(), bytes):
        yield found, dropped
    if found is not None:
        raise found

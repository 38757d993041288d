"""The pipe from the workers to the driver."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.runners.events import EventReader, EventWriter
from tests.processes import wait_until


def test_events_of_many_threads_arrive_whole_and_in_each_thread_s_order() -> None:
    threads, each = 12, 400
    heard: list[dict[str, Any]] = []

    def work(thread: int) -> None:
        writer = EventWriter(descriptor)
        for number in range(each):
            writer.send("news", thread=thread, number=number, text="x" * (number * 7 % 3000))

    with EventReader(heard.append) as events:
        descriptor = events.descriptor
        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(heard) == threads * each
    for thread in range(threads):
        own = [event for event in heard if event["thread"] == thread]
        assert [event["number"] for event in own] == list(range(each))
        assert all(event["text"] == "x" * (event["number"] * 7 % 3000) for event in own)


def send(**fields: Any) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    with EventReader(heard.append) as events:
        EventWriter(events.descriptor).send("error", **fields)
        EventWriter(events.descriptor).send("shard")
    return heard


def test_an_event_arrives_as_it_was_sent() -> None:
    fields = {"source": "caf\udce9 \u96ea\n.mp4", "truncated": True, "count": -3}
    assert send(**fields) == [{"kind": "error", **fields}, {"kind": "shard"}]


@pytest.mark.parametrize("character", ["x", "\n", "\u96ea", "\U0001f600", "\udce9"])
def test_a_long_text_is_cut_to_fit_and_nothing_is_garbled(character) -> None:
    """In JSON a character outside ASCII takes up to twelve bytes."""
    error, after = send(message=character * 5000)
    assert after == {"kind": "shard"}
    assert 250 <= len(error["message"]) < 5000
    assert set(error["message"]) == {character}


@given(st.text(), st.integers())
def test_any_event_is_one_write_that_a_pipe_takes_whole(text: str, number: int) -> None:
    reading, writing = os.pipe()
    try:
        EventWriter(writing).send("news", text=text * 100, number=number)
        line = os.read(reading, 2**20)
    finally:
        os.close(reading)
        os.close(writing)
    assert len(line) <= 4096
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


def test_without_a_pipe_events_are_swallowed() -> None:
    EventWriter(None).send("news", number=3)


def test_an_error_of_the_handler_is_raised_at_the_end_and_blocks_no_worker() -> None:
    def fail(event: dict[str, Any]) -> None:
        raise BrokenPipeError("the terminal is gone")

    def build() -> None:
        with EventReader(fail) as events:
            for _ in range(200):  # ten times what a pipe holds
                EventWriter(events.descriptor).send("news", text="x" * 3500)

    with pytest.raises(BrokenPipeError, match="terminal"):
        build()


def test_event_reader_leaves_the_pipe_open_when_the_body_raises() -> None:
    received: list[dict[str, Any]] = []
    reader = EventReader(received.append)

    def interrupted() -> None:
        with reader:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    EventWriter(reader.descriptor).send("late")
    wait_until(lambda: received == [{"kind": "late"}])
    os.close(reader.descriptor)


def test_an_error_of_the_body_is_not_hidden_by_one_of_the_handler() -> None:
    def fail(event: dict[str, Any]) -> None:
        raise BrokenPipeError

    def build() -> None:
        with EventReader(fail) as events:
            EventWriter(events.descriptor).send("news")
            raise KeyError

    with pytest.raises(KeyError):
        build()

"""Progress bars move on a terminal, and are lines in a log."""

import io
import re

import pytest

from tfrecords_schema.running import progress
from tfrecords_schema.running.progress import progress_bar


class Stream(io.StringIO):
    """Standard error that is a terminal, or is not."""

    def __init__(self, is_terminal):
        super().__init__()
        self.isatty = lambda: is_terminal


@pytest.fixture
def stream(monkeypatch):
    def replace(*, is_terminal):
        made = Stream(is_terminal)
        monkeypatch.setattr(progress.sys, "stderr", made)
        return made

    return replace


def test_a_log_holds_lines(stream, monkeypatch):
    log = stream(is_terminal=False)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0)
    with progress_bar(total=3, desc="Building", unit="seq") as bar:
        for _ in range(3):
            bar.update(1)
    lines = log.getvalue().splitlines()
    assert "\r" not in log.getvalue()
    assert lines[-1].startswith("Building: 3 of 3 seq, 00:00 elapsed")
    assert all(re.fullmatch(r"Building: \d of 3 seq, .* elapsed, .* left", line) for line in lines)


def test_work_of_a_moment_leaves_no_line_in_a_log(stream):
    log = stream(is_terminal=False)
    assert list(progress_bar(range(5), desc="Probing", unit="file")) == [0, 1, 2, 3, 4]
    assert log.getvalue() == ""


def test_a_terminal_shows_a_bar(stream):
    terminal = stream(is_terminal=True)
    with progress_bar(total=2, desc="Building", unit="seq") as bar:
        bar.update(2)
    assert "\rBuilding: 100%|" in terminal.getvalue()

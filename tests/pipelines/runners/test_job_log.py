"""What is kept of an engine's talk, and which line of it a user sees."""

import logging
import re
import sys
import threading
from pathlib import Path

import pytest

from pipelines.errors import UsageError, UserError
from pipelines.runners.job_log import find_reason, job_log
from tfrecords_schema.running import scratch

JAVA = """\
java.lang.RuntimeException: Error received from SDK harness for instruction 3: Traceback
  File "worker.py", line 297, in _execute
    response = task()
RuntimeError: OSError: [Errno 30] Read-only file system: '/mnt/out' [while running 'Build/BuildShards']
\tat java.base/java.util.concurrent.CompletableFuture.reportGet(CompletableFuture.java:396)
Caused by: org.apache.flink.util.FlinkException: The job was lost.
\t... 3 more
"""


@pytest.fixture
def logs(tmp_path, monkeypatch):
    scratch.remove_scratch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield lambda: list(tmp_path.rglob("*.log"))
    scratch.remove_scratch()


class TestFindReason:
    def test_a_workers_own_error_says_most(self):
        assert find_reason(JAVA) == (
            "OSError: [Errno 30] Read-only file system: '/mnt/out' [while running 'Build/BuildShards']"
        )

    def test_then_the_innermost_cause(self):
        java_only = JAVA.replace("[while running", "[while")
        assert (
            find_reason(java_only)
            == "Caused by: org.apache.flink.util.FlinkException: The job was lost."
        )

    def test_then_the_first_line_and_never_nothing(self):
        assert find_reason("Pipeline a-1 failed in state FAILED: so it is\nmore") == "so it is"
        assert find_reason("") == "no reason given"


class TestJobLog:
    def test_nothing_stays_of_a_job_that_succeeds(self, logs, capsys):
        with job_log() as log:
            log.write(b"starting")
            logging.getLogger("apache_beam").error("hanging up")
            assert len(logs()) == 1
        assert logs() == []
        assert capsys.readouterr().err == ""

    def test_a_job_that_fails_is_one_line_that_names_the_log(self, logs, tmp_path, capsys):
        def hang_up():
            raise ConnectionError("the engine hung up")

        def run_a_job():
            with job_log() as log:
                log.write(b"the engine's words\n")
                log.flush()
                logging.error("Beam's words")
                print("a worker's words", file=sys.stderr)
                thread = threading.Thread(target=hang_up)
                thread.start()
                thread.join()
                raise RuntimeError(JAVA)

        with pytest.raises(UserError) as raised:
            run_a_job()
        (path,) = logs()
        assert path.parent == tmp_path
        assert re.search(r"job failed: OSError: .*; log: (.*)", str(raised.value))[1] == str(path)
        assert "\n" not in str(raised.value)
        text = Path(path).read_text()
        for words in ("the engine's", "Beam's", "a worker's", "the engine hung up"):
            assert words in text
        assert capsys.readouterr().err == ""

    def test_one_that_somebody_removed_meanwhile_is_not_missed(self, logs):
        with job_log():
            logs()[0].unlink()
        assert logs() == []

    def test_what_the_user_did_wrong_leaves_no_log(self, logs):
        def run_a_job():
            with job_log() as log:
                log.write(b"starting")
                log.flush()
                raise UsageError("unknown flag --x")

        with pytest.raises(UsageError, match="unknown flag"):
            run_a_job()
        assert logs() == []

    def test_a_fault_of_ours_stays_what_it_is(self, logs):
        with pytest.raises(TypeError, match="ours"), job_log():
            raise TypeError("ours")
        assert logs() == []

    def test_logging_and_threads_are_as_before(self):
        handlers, hook = list(logging.getLogger().handlers), threading.excepthook
        with job_log():
            assert logging.getLogger().handlers != handlers
        assert logging.getLogger().handlers == handlers
        assert threading.excepthook is hook
        assert sys.excepthook is sys.__excepthook__

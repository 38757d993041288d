"""An interrupted program ends, whatever becomes of the exception."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, time
from tfrecords_schema.running import interruption
def end():
    print("ended", flush=True)
    os._exit(130)
interruption.install_handlers(end)
try:
    print("ready", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    REACTION
"""


def run_interrupted(program: str, by: signal.Signals) -> tuple[int, str, str]:
    """Exit status, last words and errors of a program that gets a signal once it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(by)
        said, errors = process.communicate(timeout=60)
        return process.returncode, said, errors


def interrupt(reaction: str, by: signal.Signals) -> tuple[int, str]:
    """Exit status and last words of a program that reacts so."""
    return run_interrupted(PROGRAM.replace("REACTION", reaction), by)[:2]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("reaction", ["time.sleep(600)", "while True: pass"])
def test_who_does_not_let_go_is_ended(reaction: str, by: signal.Signals) -> None:
    assert interrupt(reaction, by) == (130, "ended\n")


def test_who_cleans_up_in_a_moment_does_so() -> None:
    assert interrupt("print('clean')", signal.SIGTERM) == (0, "clean\n")


def test_who_asks_for_time_gets_it() -> None:
    reaction = "interruption.lift_time_limit(); time.sleep(2); print('told')"
    assert interrupt(reaction, signal.SIGINT) == (0, "told\n")


DELAYED = PROGRAM.replace(
    '    print("ready", flush=True)\n    time.sleep(600)',
    """    with interruption.delayed("ends soon"):
        print("ready", flush=True)
        while not (interruption.is_received() and ENDS):
            time.sleep(0.01)
        print("saved", flush=True)
    print("not here")""",
).replace("REACTION", "print('raised')")


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_delayed_interruption_is_announced_and_raised_at_the_end(by: signal.Signals) -> None:
    _, said, errors = run_interrupted(DELAYED.replace("ENDS", "True"), by)
    assert (said, errors) == ("saved\nraised\n", "ends soon\n")


def test_second_interruption_of_delayed_work_is_raised_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DELAYED.replace("ENDS", "False")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "ends soon\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("raised\n", "")


def test_end_that_fails_is_tried_again() -> None:
    # A handler may run in the middle of a write, so that its own fails; the exception may be lost.
    failing = """
    real_end, calls = end, []
    def end():
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("reentrant call")
        real_end()
    while True:
        try:
            time.sleep(600)
        except RuntimeError:
            pass
"""
    program = PROGRAM.replace(
        "interruption.install_handlers(end)", "interruption.install_handlers(lambda: end())"
    )
    status, said, _ = run_interrupted(program.replace("    REACTION", failing), signal.SIGTERM)
    assert (status, said) == (130, "ended\n")


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_main_thread_that_waits_for_a_lock_is_woken(by: signal.Signals) -> None:
    # Python notices a signal in the main thread alone. Here another thread gets it; the same happens to a
    # signal that arrives just before the main thread begins to wait.
    waiting = f"""
    import signal, threading
    def interrupt():
        signal.pthread_kill(threading.get_ident(), {int(by)})
    threading.Timer(0.1, interrupt).start()
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
"""
    program = PROGRAM.replace("    time.sleep(600)\n", waiting).replace(
        "REACTION", "print('woken')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "ready\nwoken\n")


def test_lost_exceptions_are_not_printed() -> None:
    # The first interrupts a finalizer, where Python ignores it. Then a thread fails, as Beam's may.
    losing = """
    import threading
    class Finalized:
        def __del__(self):
            print("ready", flush=True)
            time.sleep(600)
    def fail():
        raise OSError("its pipe is closed")
    held = Finalized()
    held = None
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    print("went on")
"""
    program = PROGRAM.replace('    print("ready", flush=True)\n    time.sleep(600)\n', losing)
    ended = run_interrupted(program.replace("REACTION", "pass"), signal.SIGINT)
    assert ended == (0, "went on\n", "")

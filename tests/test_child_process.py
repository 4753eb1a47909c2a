"""Child processes: whatever becomes of one, its parent gets an answer or an error, and no later answer is mistaken."""

import os
import signal
import struct
import threading

import pytest

from kpn_tf.child_process import ChildEndedError, ChildProcess, read_answer

# Answers each line as it says.
CHILD = r"""
import os, struct, sys, time
for line in sys.stdin.buffer:
    word = line.strip()
    if word == b"exit":
        os._exit(7)
    if word == b"hang":
        time.sleep(60)
    if word == b"cut":
        sys.stdout.buffer.write(struct.pack("<BI", 0, 9) + b"half")
        sys.stdout.flush()
        os._exit(0)
    sys.stdout.buffer.write(struct.pack("<BI", word == b"refuse", len(word)) + word)
    sys.stdout.flush()
"""


@pytest.fixture
def child():
    made = ChildProcess("-c", CHILD)
    yield made
    made.close()


def ask(child, word, timeout_s=60.0):
    return child.ask(word + b"\n", read_answer, timeout_s)


def test_a_child_answers_one_request_after_the_other(child):
    assert ask(child, b"first") == (0, b"first")
    assert ask(child, b"refuse") == (1, b"refuse")
    assert child.running


@pytest.mark.parametrize(("word", "how"), [(b"exit", "exit status 7"), (b"cut", "exit status 0")])
def test_a_child_that_ends_says_how_and_is_closed(child, word, how):
    with pytest.raises(ChildEndedError, match=f"without an answer \\({how}\\)$") as ended:
        ask(child, word)
    assert (ended.value.how, ended.value.timed_out) == (how, False)
    assert not child.open


def test_a_child_that_hangs_is_ended(child):
    with pytest.raises(ChildEndedError) as ended:
        ask(child, b"hang", timeout_s=0.1)
    assert ended.value.timed_out
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_killing_a_child_frees_the_thread_that_waits_for_it(child):
    def hang():
        with pytest.raises(ChildEndedError, match=f"signal {signal.SIGKILL.value}"):
            ask(child, b"hang")
        freed.set()

    freed = threading.Event()
    threading.Thread(target=hang).start()
    child.kill()
    assert freed.wait(60)


def test_a_child_whose_answer_was_not_read_is_closed(child):
    def interrupt(answers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.ask(b"first\n", interrupt, 60.0)
    assert not child.open


def test_a_child_belongs_to_the_process_that_started_it(child, monkeypatch):
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)
    assert not child.open
    child.kill()
    monkeypatch.undo()
    assert child.running


def test_an_answer_that_is_cut_short_is_none(tmp_path):
    whole = struct.pack("<BI", 1, 4) + b"text"
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with open(tmp_path / "cut", "rb") as answers, pytest.raises(EOFError):
            read_answer(answers)

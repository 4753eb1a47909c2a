"""SIGTERM and Ctrl-C end a command while a file takes long to decode, and leave nothing behind."""

import signal
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import JPEGLSLossless

from kpn_tf.batch import pipeline
from kpn_tf.trained import DEFAULT_WEIGHTS
from tests.ct_series import write_ct_series
from tests.test_cli import start, weights  # noqa: F401 a fixture

# Has a file, says so, and never answers.
STUCK_DECODER = """
import pathlib, sys, time
sys.stdin.buffer.read(1)
pathlib.Path(sys.argv[0]).with_suffix(".began").touch()
time.sleep(600)
"""

# Nothing can interrupt a thread: a file on a share that does not answer.
STUCK_THREAD = """
import time
from kpn_tf.batch import pipeline
def stuck(*file):
    pathlib.Path({began!r}).touch()
    time.sleep(600)
pipeline.read_slice = stuck
"""

# Far less than the decoder has, and the stuck thread takes.
PROMPT_S = 30

COMMANDS = {
    "denoise": ("in", "out"),
    "simulate": ("in", "out"),
    "report": ("in", "out/report.html"),
    "quality": ("in", "out"),
    "evaluate": ("in", "--dose", "0.25", "--denoiser", DEFAULT_WEIGHTS),
}


def interrupted(process, began, number):
    """Sends a signal once a file exists; returns what the process printed on standard error, and its exit status."""
    deadline = time.monotonic() + 60
    while not began.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=PROMPT_S)
    finally:
        process.kill()
    assert out == ""
    return err, process.returncode


@pytest.fixture
def stuck(tmp_path, monkeypatch):
    """Code that puts in a decoder which never answers, and the file that tells when it has something to decode."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for path in write_ct_series(tmp_path / "in", slices=3):
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEGLSLossless)
        dataset.save_as(path)
    script = tmp_path / "stuck.py"
    script.write_text(STUCK_DECODER)
    return (
        f"from kpn_tf.dicom.reading import decoder_process\ndecoder_process._SCRIPT = {str(script)!r}",
        script.with_suffix(".began"),
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_slow_decoder_holds_up_no_command(tmp_path, weights, stuck, command):  # noqa: F811
    before, began = stuck
    process = start(weights, command, *COMMANDS[command], before=before)
    err, status = interrupted(process, began, signal.SIGTERM)
    assert (err, status) == ("kpn: terminated\n", 143)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_thread_that_nothing_can_interrupt_holds_up_no_job(tmp_path, weights, number):  # noqa: F811
    write_ct_series(tmp_path / "in", slices=3)
    began = tmp_path / "began"
    process = start(
        weights, "denoise", tmp_path / "in", tmp_path / "out", before=STUCK_THREAD.format(began=str(began))
    )
    err, status = interrupted(process, began, number)
    assert (err, status) == (
        f"kpn: {'interrupted' if number == signal.SIGINT else 'terminated'}\n",
        128 + number,
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupted_job_waits_for_its_threads_half_of_two_seconds():
    assert pipeline.PATIENCE_S <= 1.0


def test_a_decoder_that_was_interrupted_half_way_answers_the_next_file_alone(tmp_path, monkeypatch):
    from kpn_tf.dicom import read_slice
    from kpn_tf.dicom.reading import decoder_process

    paths = write_ct_series(tmp_path / "in", slices=2)
    expected = [read_slice(path).slice_hu for path in paths]
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEGLSLossless)
        dataset.save_as(path)

    class Interrupt(BaseException):
        pass

    def interrupt(answers):
        raise Interrupt

    with monkeypatch.context() as patched:
        patched.setattr(decoder_process, "read_answer", interrupt)
        with pytest.raises(Interrupt):
            read_slice(paths[0])
    assert (read_slice(paths[1]).slice_hu == expected[1]).all()
    assert Path(decoder_process._SCRIPT).is_file()

"""`kpn denoise --watch`: what is put into a folder appears, denoised, in another; killed or not."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest

from tests.ct_series import uid, write_ct_series
from tests.node_peers import until
from tests.node_scenarios import derived_from


class Watching:
    """The command in a process of its own."""

    def __init__(self, folder, *options):
        self.inbox, self.output, self.log = folder / "in", folder / "out", folder / "log.jsonl"
        self.inbox.mkdir(parents=True)
        self._call = [sys.executable, "-P", "-m", "kpn_tf.cli", "denoise", "--watch", str(self.inbox)]
        self._call += ["--output", str(self.output), "--quiet", "1.5", *options]

    def __enter__(self):
        before = len(self.lines("started"))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self._call, stdout=subprocess.DEVNULL, stderr=log)
        until(lambda: len(self.lines("started")) > before or self.process.poll() is not None)
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(300) == 0

    def lines(self, event):
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def derived(self):
        """Datasets in the output, by SOP Instance UID."""
        return {path.stem: pydicom.dcmread(path) for path in self.output.glob("[!.]*/*.dcm")}


def test_a_series_appears_whole_and_as_kpn_denoise_makes_it(tmp_path):
    with Watching(tmp_path / "watch") as watching:
        seen = set()
        write_ct_series(watching.inbox / "a" / "b", name="watched", slices=4)

        def done():
            seen.add(len(watching.derived()))
            return watching.lines("denoised")

        until(done)
        expected = derived_from(watching.inbox, tmp_path / "expected")
        assert watching.derived() == expected
        assert seen <= {0, 4}
        assert {path.parent.name for path in watching.output.glob("*/*.dcm")} == {
            dataset.SeriesInstanceUID for dataset in expected.values()
        }


def test_slices_that_come_late_join_their_series_and_nothing_is_done_twice(tmp_path):
    paths = write_ct_series(tmp_path / "made", name="tardy", slices=5)
    with Watching(tmp_path / "watch") as watching:
        for path in paths[:3]:
            shutil.copy(path, watching.inbox)
        until(lambda: len(watching.derived()) == 3)
        for path in paths[3:]:
            shutil.copy(path, watching.inbox)
        until(lambda: len(watching.derived()) == 5)
        until(lambda: len(watching.lines("sent")) == 2)
    assert [line["slices"] for line in watching.lines("denoised")] == [3, 2]
    with watching:
        # Another one, found after those of before.
        write_ct_series(watching.inbox / "next", name="next", slices=1)
        until(lambda: len(watching.lines("denoised")) > 2)
        assert [line["slices"] for line in watching.lines("denoised")] == [3, 2, 1]
    assert watching.derived() == derived_from(watching.inbox, tmp_path / "expected")
    assert len(list(watching.output.glob("[!.]*"))) == 2


def test_what_is_no_ct_is_told_once_and_the_rest_goes_on(tmp_path):
    with Watching(tmp_path / "watch") as watching:
        (watching.inbox / "notes.txt").write_text("not DICOM")
        paths = write_ct_series(watching.inbox, name="cut", slices=2)
        paths[0].write_bytes(paths[0].read_bytes()[:-100])
        until(lambda: watching.lines("denoised"))
        refused = {line["file"]: line["reason"] for line in watching.lines("refused")}
        assert refused == {
            str(watching.inbox / "notes.txt"): "is not a DICOM file",
            str(paths[0]): "is cut off inside its pixel data",
        }
        assert len(watching.derived()) == 1
        # Now the rest of it arrives.
        write_ct_series(watching.inbox, name="cut", slices=2)
        until(lambda: len(watching.derived()) == 2)


def test_the_output_may_lie_in_the_watched_folder_and_is_not_denoised_again(tmp_path):
    watching = Watching(tmp_path / "watch")
    watching.output = watching.inbox / "out"
    watching._call[watching._call.index("--output") + 1] = str(watching.output)
    with watching:
        write_ct_series(watching.inbox, name="inside", slices=2)
        until(lambda: len(watching.derived()) == 2)
        # By the time that another one is there, what was derived has been seen in its folder.
        write_ct_series(watching.inbox, name="next", slices=1)
        until(lambda: len(watching.derived()) == 3)
        assert len(watching.lines("complete")) == 2


def test_names_that_are_no_text_and_pipes_stop_nothing(tmp_path):
    with Watching(tmp_path / "watch") as watching:
        os.mkfifo(watching.inbox / "pipe")
        Path(os.fsdecode(bytes(watching.inbox) + b"/M\xfcller.txt")).write_text("not DICOM")
        (path,) = write_ct_series(tmp_path / "made", name="odd", slices=1)
        shutil.copy(path, os.fsdecode(bytes(watching.inbox) + b"/M\xfcller.dcm"))
        until(lambda: len(watching.derived()) == 1)
        assert len(watching.lines("refused")) == 1
        assert watching.lines("step failed") == []


def test_what_is_put_in_may_vanish_or_change_once_it_has_been_taken(tmp_path):
    paths = write_ct_series(tmp_path / "made", name="gone", slices=2)
    with Watching(tmp_path / "watch") as watching:
        for path in paths:
            shutil.copy(path, watching.inbox)
        until(lambda: len(list(watching.output.glob(".kpn-watch/series/1/originals/*.dcm"))) == 2)
        (watching.inbox / paths[0].name).unlink()
        (watching.inbox / paths[1].name).write_bytes(b"something else")
        until(lambda: len(watching.derived()) == 2)
    assert watching.derived() == derived_from(tmp_path / "made", tmp_path / "expected")


def test_killed_at_random_it_finishes_everything_and_touches_no_input(tmp_path):
    rng = random.Random(4)
    watching = Watching(tmp_path / "watch")
    before = {}
    for number in range(4):
        with watching:
            for path in write_ct_series(watching.inbox / str(number), name=f"k{number}", slices=4):
                before[path] = path.read_bytes()
            time.sleep(rng.uniform(0.5, 4.0))
            with contextlib.suppress(ProcessLookupError):
                os.kill(watching.process.pid, signal.SIGKILL)
            watching.process.wait()
    with watching:
        until(lambda: len(watching.derived()) == 16)
    assert watching.derived() == derived_from(watching.inbox, tmp_path / "expected")
    assert {path: path.read_bytes() for path in before} == before
    assert uid("k0", "series") not in watching.log.read_text()


def test_the_folder_contract_wants_nothing_but_the_base_install():
    script = "import sys; sys.modules['pynetdicom'] = None; import kpn_tf.node.watch, kpn_tf.cli.watch, kpn_tf.cli.node"
    subprocess.run([sys.executable, "-P", "-c", script], check=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--watch", "nowhere", "--output", "out"],
            "Expected a folder to watch. Received: nowhere, which is none",
        ),
        (["--watch", "."], "the following arguments are required: --output"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(tmp_path, words, said):
    call = [sys.executable, "-P", "-m", "kpn_tf.cli", "denoise", *words]
    answer = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert list(tmp_path.iterdir()) == []

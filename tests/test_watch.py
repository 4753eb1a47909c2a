"""`kpn denoise --watch`: what is put into a folder appears, denoised, in another; killed or not."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pydicom.data import get_testdata_file

from kpn_tf.node import log
from kpn_tf.node.inbox import Inbox
from kpn_tf.node.journal import arrivals, steps
from kpn_tf.node.journal.journal import Journal
from kpn_tf.node.settings import Limits
from kpn_tf.node.watch import Watcher
from tests.ct_series import uid, write_ct_series
from tests.node_peers import until
from tests.node_scenarios import derived_from
from tests.noisy_torso import noisy_volume, write_torso


class Watching:
    """The command in a process of its own."""

    def __init__(self, folder, *options, weights="edge"):
        self.inbox, self.output, self.log = folder / "in", folder / "out", folder / "log.jsonl"
        self.inbox.mkdir(parents=True)
        self._call = [sys.executable, "-P", "-m", "kpn_tf.cli", "denoise", "--watch", str(self.inbox)]
        self._call += [str(self.output), "--quiet", "1.5", "--weights", weights, *options]

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
        write_ct_series(watching.inbox / "a" / "b", name="watched", slices=4, BodyPartExamined="BRAIN")

        def done():
            seen.add(len(watching.derived()))
            return watching.lines("denoised")

        until(done)
        expected = derived_from(watching.inbox, tmp_path / "expected")
        assert watching.derived() == expected
        assert seen <= {0, 4}
        (line,) = watching.lines("denoised")
        assert "outside what the network was made for (a head)" in line["note"]
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


@pytest.mark.slow
def test_each_series_has_the_strength_for_a_wanted_noise_and_late_slices_have_that_of_their_series(tmp_path):
    series = {noise_hu: tmp_path / f"made{noise_hu}" for noise_hu in (12, 24)}
    for noise_hu, folder in series.items():
        write_torso(folder, noisy_volume(slices=3, noise_hu=noise_hu), changes={"PatientID": str(noise_hu)})
    with Watching(tmp_path / "watch", "--noise", "8", "--weights", "edge", "--threads", "1") as watching:
        for noise_hu, folder in series.items():
            (watching.inbox / str(noise_hu)).mkdir()
            for name in ("0001.dcm", "0002.dcm"):
                shutil.copy(folder / name, watching.inbox / str(noise_hu))
        until(lambda: len(watching.derived()) == 4)
        shutil.copy(series[24] / "0003.dcm", watching.inbox / "24")
        until(lambda: len(watching.derived()) == 5)
    derived = {noise_hu: [] for noise_hu in series}
    for one in watching.derived().values():
        derived[int(one.PatientID)].append(one)
    told = {
        noise_hu: {
            (
                one.SeriesInstanceUID,
                re.search(r"strength ([\d.]+) \(for noise of 8 HU", one.DerivationDescription)[1],
            )
            for one in slices
        }
        for noise_hu, slices in derived.items()
    }
    assert {noise_hu: len(slices) for noise_hu, slices in derived.items()} == {12: 2, 24: 3}
    ((_, less),), ((_, more),) = told[12], told[24]
    assert 0 < float(less) < float(more) <= 1


@pytest.mark.slow
def test_a_network_of_stacks_has_for_late_slices_their_neighbours_among_each_other_only(tmp_path):
    paths = write_ct_series(tmp_path / "made", name="late", slices=5)
    parts, expected = (paths[:3], paths[3:]), {}
    for number, part in enumerate(parts):
        (tmp_path / f"part{number}").mkdir()
        for path in part:
            shutil.copy(path, tmp_path / f"part{number}")
        expected |= derived_from(tmp_path / f"part{number}", tmp_path / f"expected{number}", "stack")
    with Watching(tmp_path / "watch", weights="stack") as watching:
        for count, part in ((3, parts[0]), (5, parts[1])):
            for path in part:
                shutil.copy(path, watching.inbox)
            until(lambda count=count: len(watching.derived()) == count)
    assert watching.derived() == expected
    # One series, whose slices at the join would be others if it had come at once.
    assert len({dataset.SeriesInstanceUID for dataset in expected.values()}) == 1
    at_once = derived_from(tmp_path / "made", tmp_path / "at_once", "stack")
    assert at_once.keys() == expected.keys()
    assert at_once != expected


def test_what_is_no_ct_is_told_once_and_the_rest_goes_on(tmp_path):
    with Watching(tmp_path / "watch") as watching:
        (watching.inbox / "notes.txt").write_text("not DICOM")
        (watching.inbox / "bad.dcm").write_text("not DICOM either")
        (watching.inbox / "._a.dcm").write_bytes(b"\0\5\x16\7".ljust(4096, b"\0"))
        (watching.inbox / "empty.dcm").touch()
        shutil.copy(get_testdata_file("dicomdirtests/DICOMDIR", download=False), watching.inbox)
        (outside,) = write_ct_series(tmp_path / "outside", name="outside", slices=1)
        (watching.inbox / "linked.dcm").symlink_to(outside)
        (watching.inbox / "linked").symlink_to(outside.parent)
        (watching.inbox / "circle").symlink_to(watching.inbox)
        paths = write_ct_series(watching.inbox, name="cut", slices=2)
        paths[0].write_bytes(paths[0].read_bytes()[:-100])
        until(lambda: watching.lines("denoised"))
        refused, skipped = (
            {line["file"]: line["reason"] for line in watching.lines(event)}
            for event in ("refused", "skipped")
        )
        assert refused == {
            str(watching.inbox / "bad.dcm"): "is not a DICOM file although it is named like one",
            str(paths[0]): "is cut off inside its pixel data",
        }
        assert skipped == {
            **{
                str(watching.inbox / name): "is a link, which is not followed"
                for name in ("linked.dcm", "linked", "circle")
            },
            str(watching.inbox / "notes.txt"): "is not a DICOM file",
            str(watching.inbox / "DICOMDIR"): "is no CT slice",
            str(watching.inbox / "._a.dcm"): "is an AppleDouble file, which macOS puts beside another",
        }
        assert len(watching.derived()) == 1
        # Now the rest of it arrives.
        write_ct_series(watching.inbox, name="cut", slices=2)
        until(lambda: len(watching.derived()) == 2)


def test_a_file_that_is_empty_at_first_is_waited_for(tmp_path):
    (path,) = write_ct_series(tmp_path / "made", name="slow", slices=1)
    with Watching(tmp_path / "watch") as watching:
        (watching.inbox / "slow.dcm").touch()
        # Looked at only after it, and told.
        time.sleep(2.5)
        (watching.inbox / "later.txt").write_text("not DICOM")
        until(lambda: watching.lines("skipped"))
        shutil.copy(path, watching.inbox / "slow.dcm")
        until(lambda: len(watching.derived()) == 1)
        assert watching.lines("refused") == []


def test_the_output_may_lie_in_the_watched_folder_and_is_not_denoised_again(tmp_path):
    watching = Watching(tmp_path / "watch")
    watching.output = watching.inbox / "out"
    watching._call[watching._call.index("--quiet") - 1] = str(watching.output)
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
        (line,) = until(lambda: watching.lines("skipped"))
        assert line["reason"] == "is not a DICOM file"
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


@pytest.mark.slow
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
            ["--watch", "nowhere", "out"],
            "Expected a folder to watch. Received: nowhere, which is not one",
        ),
        (["--watch", "."], "the following arguments are required: OUTPUT"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(tmp_path, words, said):
    call = [sys.executable, "-P", "-m", "kpn_tf.cli", "denoise", *words]
    answer = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A watcher whose looks are the test's, and what it has refused."""
    refused = []
    monkeypatch.setattr(log, "warning", lambda event, **fields: refused.append((event, fields["reason"])))
    (tmp_path / "in").mkdir()
    inbox = Inbox(tmp_path / "out")
    journal = Journal(inbox.journal)
    limits = Limits(keep_free_gb=0.001)
    watcher = Watcher(tmp_path / "in", inbox, journal, limits, threading.Event())
    yield SimpleNamespace(
        watcher=watcher, journal=journal, inbox=inbox, folder=tmp_path / "in", refused=refused
    )
    watcher.stop()
    journal.close()


def half_full(path):
    """A file as a copy with its length set first has it for a while: its second half is zeros. Returns the whole."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\0" * (len(whole) - len(whole) // 2))
    return whole


def taken(watched):
    return [path.read_bytes() for path in watched.inbox.series.glob("*/originals/*.dcm")]


def test_a_file_that_was_taken_half_full_is_taken_again(watched):
    (path,) = write_ct_series(watched.folder, name="half", slices=1)
    whole = half_full(path)
    for _ in range(3):
        watched.watcher.look()
    assert taken(watched) == [path.read_bytes()] != [whole]
    path.write_bytes(whole)
    for _ in range(3):
        watched.watcher.look()
    assert taken(watched) == [whole]
    (row,) = watched.journal.all(
        "SELECT slices, bytes, digest FROM series JOIN instance ON series.id = series"
    )
    assert (row["slices"], row["bytes"]) == (1, len(whole))
    assert row["digest"] == hashlib.sha256(whole).hexdigest()
    assert watched.refused == []


def test_so_it_is_by_a_watcher_that_was_started_meanwhile(watched):
    (path,) = write_ct_series(watched.folder, name="half", slices=1)
    whole = half_full(path)
    for _ in range(2):
        watched.watcher.look()
    path.write_bytes(whole)
    later = Watcher(
        watched.folder, watched.inbox, watched.journal, Limits(keep_free_gb=0.001), threading.Event()
    )
    for _ in range(2):
        later.look()
    assert taken(watched) == [whole]


def test_a_series_waits_while_one_of_its_files_changes(watched):
    (path,) = write_ct_series(watched.folder, name="half", slices=1)
    for _ in range(2):
        watched.watcher.look()
    watched.journal.change("UPDATE series SET changed = 0.0")
    watched.watcher.look()
    assert arrivals.finished(watched.journal, 60.0, time.time()) == [1]
    path.write_bytes(path.read_bytes() + b"\0")
    watched.watcher.look()
    assert arrivals.finished(watched.journal, 60.0, time.time()) == []


def test_a_file_that_changes_after_its_series_was_closed_is_told(watched):
    (path,) = write_ct_series(watched.folder, name="half", slices=1)
    whole = half_full(path)
    for _ in range(2):
        watched.watcher.look()
    steps.complete(watched.journal, 1, None, "", time.time())
    path.write_bytes(whole)
    for _ in range(3):
        watched.watcher.look()
    ((event, reason),) = watched.refused
    assert event == "refused"
    assert reason.startswith("has changed after its series was complete, and was denoised as it was before")
    assert taken(watched) != [whole]


def test_another_file_of_the_same_uid_takes_nobodys_place(watched):
    (path,) = write_ct_series(watched.folder, name="half", slices=1)
    for _ in range(2):
        watched.watcher.look()
    before = taken(watched)
    (watched.folder / "other.dcm").write_bytes(path.read_bytes() + b"\0\0")
    for _ in range(2):
        watched.watcher.look()
    assert watched.refused == [("refused", "has the UID of another object that is here already")]
    assert taken(watched) == before


def test_a_file_that_is_larger_than_any_object_is_not_even_copied(watched):
    with open(watched.folder / "film", "wb") as file:
        file.truncate(10**12)  # takes no room here, and would in a copy
    for _ in range(2):
        watched.watcher.look()
    assert watched.refused == [("refused", "is larger than 1000 MB")]

"""Every CT series becomes a derived series, atomically, in bounded memory, the input untouched."""

import collections
import errno
import gc
import hashlib
import os
import stat
import threading
import time
import weakref

import numpy as np
import pydicom
import pytest

from kpn_tf import batch
from kpn_tf.batch import pipeline, writer
from kpn_tf.batch.outcome import Progress
from kpn_tf.denoiser import Denoiser
from kpn_tf.dicom import DicomError
from kpn_tf.metrics import flat_regions, regional_noise_std_hu
from tests.command import BOX
from tests.ct_series import uid, write_ct_series


@pytest.fixture(scope="module")
def box():
    return Denoiser(BOX, threads=1)


def contents(folder):
    """Path and hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def slice_hu(path):
    dataset = pydicom.dcmread(path)
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


class Recorder(Progress):
    def __init__(self):
        self.events = []

    def planned(self, slices):
        self.events.append(("planned", slices))

    def slice_done(self):
        self.events.append(("slice",))

    def refused(self, refusal):
        self.events.append(("refused", refusal.path.name, refusal.failure))

    def series_done(self, report):
        self.events.append(("series", report.outcome))


def test_every_slice_of_a_series_is_the_networks_answer_under_a_new_identity(tmp_path, box):
    sources = write_ct_series(tmp_path / "in", slices=4)
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    (series,) = report.series
    folder = tmp_path / "out" / series.derived_uid
    derived = {pydicom.dcmread(path).InstanceNumber: path for path in folder.iterdir()}
    assert report.ok
    assert len(derived) == 4
    for number, path in derived.items():
        dataset, source = pydicom.dcmread(path), pydicom.dcmread(sources[number - 1])
        assert path.name == f"{dataset.SOPInstanceUID}.dcm"
        assert dataset.SeriesInstanceUID == series.derived_uid != source.SeriesInstanceUID
        assert dataset.SOPInstanceUID != source.SOPInstanceUID
        np.testing.assert_array_equal(slice_hu(path), np.rint(box(slice_hu(sources[number - 1]))))


def test_strength_reaches_the_pixels_and_the_identity(tmp_path, box):
    (source,) = write_ct_series(tmp_path / "in", slices=1)
    half = Denoiser(BOX, threads=1, strength=0.5)
    full_report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    half_report = batch.denoise(tmp_path / "in", tmp_path / "out", half)
    assert full_report.series[0].derived_uid != half_report.series[0].derived_uid
    (path,) = (tmp_path / "out" / half_report.series[0].derived_uid).iterdir()
    np.testing.assert_array_equal(slice_hu(path), np.rint(half(slice_hu(source))))


def test_the_report_tells_slices_noise_and_time_of_each_series(tmp_path, box):
    write_ct_series(tmp_path / "in" / "deep" / "er", name="a", slices=2, noise_hu=25.0)
    write_ct_series(tmp_path / "in", name="bb", slices=3, kernel="D45f")
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert sorted((series.kernel, series.slices, series.written) for series in report.series) == [
        ("B30f", 2, 2),
        ("D45f", 3, 3),
    ]
    for series in report.series:
        assert 15 < series.noise_before_hu < 35
        sources = sorted((tmp_path / "in").rglob(f"{'a' if series.slices == 2 else 'bb'}*.dcm"))
        derived = {
            pydicom.dcmread(path).InstanceNumber: path
            for path in (tmp_path / "out" / series.derived_uid).iterdir()
        }
        flat = [flat_regions(slice_hu(path), (0.8, 0.8)) for path in sources]
        for noise_hu, paths in (
            (series.noise_before_hu, sources),
            (series.noise_after_hu, [derived[number + 1] for number in range(series.slices)]),
        ):
            measured = [regional_noise_std_hu(slice_hu(p), f) for p, f in zip(paths, flat, strict=True)]
            assert noise_hu == pytest.approx(np.mean(measured), rel=0.01)  # Stored values are whole HU.
        assert 0 < series.inference_seconds_per_slice < series.seconds_per_slice * series.slices
    assert report.slices_written == 5


def test_a_single_file_is_denoised(tmp_path, box):
    paths = write_ct_series(tmp_path / "in", slices=3)
    report = batch.denoise(paths[1], tmp_path / "out", box)
    assert report.ok
    assert report.slices_written == 1


def test_the_input_is_never_touched(tmp_path, box):
    write_ct_series(tmp_path / "in")
    before = contents(tmp_path / "in")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()}
    batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert contents(tmp_path / "in") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()} == times


def test_two_runs_write_the_same_bytes(tmp_path, box):
    write_ct_series(tmp_path / "in")
    batch.denoise(tmp_path / "in", tmp_path / "one", box)
    batch.denoise(tmp_path / "in", tmp_path / "two", box)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") != {}


def test_a_series_that_exists_is_never_overwritten_and_the_others_go_on(tmp_path, box):
    write_ct_series(tmp_path / "in", name="a")
    batch.denoise(tmp_path / "in", tmp_path / "out", box)
    before = contents(tmp_path / "out")
    write_ct_series(tmp_path / "in", name="new")
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert sorted(series.outcome for series in report.series) == ["exists", "written"]
    assert not report.ok
    assert before.items() < contents(tmp_path / "out").items()


def test_a_series_that_appears_meanwhile_is_never_overwritten(tmp_path, box):
    write_ct_series(tmp_path / "in")
    uid = batch.denoise(tmp_path / "in", tmp_path / "first", box).series[0].derived_uid

    def denoise_slowly(slice_hu, padding):
        (tmp_path / "out" / uid).mkdir(exist_ok=True)
        (tmp_path / "out" / uid / "theirs").write_text("theirs")
        return box(slice_hu, padding)

    denoise_slowly.identity, denoise_slowly.strength = box.identity, box.strength
    denoise_slowly.device = box.device
    report = batch.denoise(tmp_path / "in", tmp_path / "out", denoise_slowly)
    assert [series.outcome for series in report.series] == ["exists"]
    assert list(contents(tmp_path / "out")) == [f"{uid}/theirs"]


@pytest.mark.parametrize("output", ["in", "in/out"], ids=["equal", "inside"])
def test_output_in_the_input_is_never_denoised_again(tmp_path, box, output):
    write_ct_series(tmp_path / "in", name="a")
    first = batch.denoise(tmp_path / "in", tmp_path / output, box)
    before = contents(tmp_path / "in")
    again = batch.denoise(tmp_path / "in", tmp_path / output, box)
    assert first.ok
    assert sorted(series.outcome for series in again.series) == ["exists", "own output"]
    assert contents(tmp_path / "in") == before


def test_own_output_does_not_spoil_the_rest_but_alone_it_is_nothing(tmp_path, box):
    write_ct_series(tmp_path / "in", name="a")
    batch.denoise(tmp_path / "in", tmp_path / "mixed", box)
    alone = batch.denoise(tmp_path / "mixed", tmp_path / "out", box)
    write_ct_series(tmp_path / "mixed", name="b")
    mixed = batch.denoise(tmp_path / "mixed", tmp_path / "out", box)
    assert not alone.ok
    assert [series.outcome for series in alone.series] == ["own output"]
    assert mixed.ok


def test_files_that_are_no_ct_spoil_nothing_and_are_named(tmp_path, box):
    write_ct_series(tmp_path / "in")
    (tmp_path / "in" / "SOURCE.txt").write_text("where it came from")
    recorder = Recorder()
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box, progress=recorder)
    assert report.ok
    assert ("refused", "SOURCE.txt", False) in recorder.events


def test_a_folder_without_ct_is_not_ok_and_makes_no_output(tmp_path, box):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "SOURCE.txt").write_text("nothing else")
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert not report.ok
    assert not (tmp_path / "out").exists()


def test_a_corrupt_slice_is_named_and_the_rest_is_written(tmp_path, box):
    paths = write_ct_series(tmp_path / "in", slices=5)
    paths[2].write_bytes(paths[2].read_bytes()[:-700])
    recorder = Recorder()
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box, progress=recorder)
    assert [(series.outcome, series.written) for series in report.series] == [("incomplete", 4)]
    assert [(refusal.path, refusal.failure) for refusal in report.refusals] == [(paths[2], True)]
    assert ("refused", paths[2].name, True) in recorder.events
    assert not report.ok
    assert len(contents(tmp_path / "out")) == 4


def test_a_series_of_corrupt_slices_leaves_no_folder(tmp_path, box):
    for path in write_ct_series(tmp_path / "in", slices=2):
        path.write_bytes(path.read_bytes()[:-700])
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert [series.outcome for series in report.series] == ["failed"]
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_hears_of_every_slice_and_series(tmp_path, box):
    write_ct_series(tmp_path / "in", name="a", slices=2)
    recorder = Recorder()
    batch.denoise(tmp_path / "in", tmp_path / "out", box, progress=recorder)
    assert recorder.events == [("planned", 2), ("slice",), ("slice",), ("series", "written")]


def test_slices_of_two_sizes_in_one_series_end_in_one_derived_series(tmp_path, box):
    write_ct_series(tmp_path / "in", slices=2)
    (odd,) = write_ct_series(tmp_path / "odd", name="odd", slices=1, rows=40, columns=36)
    dataset = pydicom.dcmread(odd)
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uid("a", "series"), uid("a", "study")
    dataset.save_as(tmp_path / "in" / "odd.dcm")
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert [(series.outcome, series.slices) for series in report.series] == [("written", 3)]
    assert len(contents(tmp_path / "out")) == 3


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_an_output_that_fails_in_mid_series_ends_the_job_in_one_sentence(tmp_path, box, code, monkeypatch):
    write_ct_series(tmp_path / "in", name="a", slices=2)
    write_ct_series(tmp_path / "in", name="bb", slices=9)
    write_ct_series(tmp_path / "in", name="ccc", slices=9)
    room = iter(range(6))

    def write(dataset, path):
        if next(room, None) is None:
            raise DicomError(path, "cannot be written") from OSError(code, os.strerror(code), str(path))
        original(dataset, path)

    original = writer.write_slice
    monkeypatch.setattr(writer, "write_slice", write)
    threads = threading.active_count()
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert report.stopped == f"cannot write to {tmp_path / 'out'}: {os.strerror(code)}"
    assert not report.ok
    assert threading.active_count() == threads
    written = [series.derived_uid for series in report.series if series.outcome == "written"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == written


def test_an_interruption_leaves_no_partial_series_and_no_thread(tmp_path, box):
    write_ct_series(tmp_path / "in", slices=9)
    calls = iter(range(4))

    def denoise(slice_hu, padding):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return box(slice_hu, padding)

    denoise.identity, denoise.strength = box.identity, box.strength
    denoise.device = box.device
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        batch.denoise(tmp_path / "in", tmp_path / "out", denoise)
    assert list((tmp_path / "out").iterdir()) == []
    assert threading.active_count() == threads


def test_a_bug_in_a_thread_is_raised_and_leaves_no_partial_series(tmp_path, box, monkeypatch):
    write_ct_series(tmp_path / "in", slices=9)

    def derive(*args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(writer, "derive_slice", derive)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert list((tmp_path / "out").iterdir()) == []


def test_memory_does_not_grow_with_the_series(tmp_path, box, monkeypatch):
    write_ct_series(tmp_path / "in", slices=60, rows=30, columns=26)
    alive, most = set(), []
    original = pipeline.read_slice

    def read(path, frame):
        ct = original(path, frame)
        alive.add(path)
        weakref.finalize(ct, alive.discard, path)
        most.append(len(alive))
        return ct

    def write_late(dataset, path):
        time.sleep(0.002)
        write(dataset, path)

    write = writer.write_slice
    monkeypatch.setattr(pipeline, "read_slice", read)
    monkeypatch.setattr(writer, "write_slice", write_late)
    gc.collect()
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert report.slices_written == 60
    # Two belts, what each of the three stages has in hand, and one that is just being read.
    assert max(most) <= 2 * pipeline.AHEAD + 3 + 1


def test_decoding_inference_and_writing_overlap(tmp_path, box, monkeypatch):
    write_ct_series(tmp_path / "in", slices=12)
    # The first slice is written while the second is inferred and the third is decoded: each waits for the others.
    meeting, calls = threading.Barrier(3), collections.Counter()

    def met(stage, number, function):
        def wrapped(*args):
            calls[stage] += 1
            if calls[stage] == number:
                meeting.wait(timeout=300)
            return function(*args)

        return wrapped

    monkeypatch.setattr(pipeline, "read_slice", met("read", 3, pipeline.read_slice))
    monkeypatch.setattr(writer, "write_slice", met("write", 1, writer.write_slice))
    denoise = met("infer", 2, box)
    denoise.identity, denoise.strength = box.identity, box.strength
    denoise.device = box.device
    assert batch.denoise(tmp_path / "in", tmp_path / "out", denoise).slices_written == 12
    assert calls == {"read": 12, "infer": 12, "write": 12}


def test_derived_series_are_private_to_their_owner(tmp_path, box):
    write_ct_series(tmp_path / "in", slices=1)
    series = batch.denoise(tmp_path / "in", tmp_path / "out", box).series[0]
    folder = tmp_path / "out" / series.derived_uid
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_input_that_does_not_exist_is_refused(tmp_path, box):
    with pytest.raises(FileNotFoundError, match=r"Expected a CT file or a folder. Received: .*absent"):
        batch.denoise(tmp_path / "absent", tmp_path / "out", box)


def test_an_output_that_is_a_file_is_refused(tmp_path, box):
    write_ct_series(tmp_path / "in", slices=1)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"Expected a folder for the output. Received: .*out"):
        batch.denoise(tmp_path / "in", tmp_path / "out", box)


def test_real_compressed_slices_go_through(ct_data, tmp_path, box):
    source = ct_data / "normal_dose_test" / "covid_ny_sbu_single_slices"
    report = batch.denoise(source, tmp_path / "out", box)
    assert report.ok
    assert report.slices_written == 10

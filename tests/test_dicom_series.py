import builtins
import os
import shutil

import numpy as np
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file

from kpn_tf.dicom import DerivedBy, DicomError, derive_slice, find_series, read_slice, write_slice
from tests.dicom_fixtures import ct_dataset, save, stored_values


def test_slices_are_sorted_by_position_whatever_their_names_and_numbers(tmp_path):
    for instance, position_mm in enumerate([6.0, -3.0, 12.5, 0.0], start=1):
        save(ct_dataset(instance=instance, position_mm=position_mm), tmp_path / f"{instance}.dcm")
    (series,), refusals = find_series(tmp_path)
    assert [slice_file.position_mm for slice_file in series.slices] == [-3.0, 0.0, 6.0, 12.5]
    assert [slice_file.path.name for slice_file in series.slices] == ["2.dcm", "4.dcm", "1.dcm", "3.dcm"]
    assert refusals == []
    assert (series.rows, series.columns, series.pixel_spacing_mm) == (37, 33, (0.75, 0.75))
    assert (series.description, series.kernel, series.manufacturer) == ("abdomen", "SOFT", "Nobody")
    assert (series.thickness_mm, series.denoised) == (3.0, False)


def test_oblique_slices_are_sorted_along_their_normal(tmp_path):
    tilt = np.deg2rad(22)
    for instance, step_mm in enumerate([5.0, 0.0, 10.0], start=1):
        dataset = ct_dataset(instance=instance)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, round(np.cos(tilt), 6), round(-np.sin(tilt), 6)]
        dataset.ImagePositionPatient = [0, round(step_mm * np.sin(tilt), 6), round(step_mm * np.cos(tilt), 6)]
        save(dataset, tmp_path / f"{instance}.dcm")
    (series,), _ = find_series(tmp_path)
    np.testing.assert_allclose([part.position_mm for part in series.slices], [0, 5, 10], atol=1e-4)


def test_phases_at_the_same_position_all_survive(tmp_path):
    for instance in range(6):
        dataset = ct_dataset(instance=instance + 1, position_mm=3.0 * (instance % 2))
        dataset.AcquisitionNumber = instance // 2
        save(dataset, tmp_path / f"{instance}.dcm")
    (series,), refusals = find_series(tmp_path)
    assert [part.position_mm for part in series.slices] == [0.0] * 3 + [3.0] * 3
    assert [part.path.name for part in series.slices] == [f"{n}.dcm" for n in (0, 2, 4, 1, 3, 5)]
    assert refusals == []


def test_a_series_that_mixes_geometries_is_split(tmp_path):
    for instance in range(1, 10):
        size = {"rows": 35, "columns": 33} if instance in (1, 2) else {}
        dataset = ct_dataset(stored_values(**size), instance=instance, position_mm=instance)
        if instance in (3, 4):
            dataset.PixelSpacing = [0.5, 0.75]
        if instance in (5, 6):
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        if instance == 7:
            dataset.PixelSpacing = [0.75000001, 0.75]  # the last digit is no other geometry
        save(dataset, tmp_path / f"{instance}.dcm")
    series, _ = find_series(tmp_path)
    assert sorted(len(part.slices) for part in series) == [2, 2, 2, 3]
    assert len({part.uid for part in series}) == 1


def test_series_in_nested_folders_are_told_apart_in_a_fixed_order(tmp_path):
    for series in (3, 1, 2):
        folder = tmp_path / str(9 - series) / "deep" / "er"
        folder.mkdir(parents=True)
        save(ct_dataset(series=series), folder / "IM0001")
    found, _ = find_series(tmp_path)
    assert [series.uid[-2:] for series in found] == [".1", ".2", ".3"]


def test_everything_left_out_is_named(tmp_path):
    save(ct_dataset(), tmp_path / "good.dcm")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "empty").touch()
    (tmp_path / "zero.dcm").touch()
    (tmp_path / "junk.dcm").write_bytes(b"\x93" * 4000)
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    mr = ct_dataset(series=2)
    mr.SOPClassUID, mr.Modality = uid.MRImageStorage, "MR"
    save(mr, tmp_path / "mr.dcm")
    localizer = ct_dataset(series=3)
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(localizer, tmp_path / "scout.dcm")
    enhanced = ct_dataset(series=4)
    enhanced.SOPClassUID = uid.EnhancedCTImageStorage
    save(enhanced, tmp_path / "enhanced.dcm")
    (tmp_path / "short.dcm").write_bytes((tmp_path / "good.dcm").read_bytes()[:1000])
    series, refusals = find_series(tmp_path)
    assert [len(part.slices) for part in series] == [1]
    failures = {refusal.path.name: refusal.failure for refusal in refusals}
    assert failures == {
        "readme.txt": False,
        "empty": False,
        "pipe": False,
        "mr.dcm": False,
        "scout.dcm": False,
        "zero.dcm": True,
        "junk.dcm": True,
        "lost": True,
        "enhanced.dcm": True,
        "short.dcm": True,
    }
    assert [refusal.path for refusal in refusals] == sorted(refusal.path for refusal in refusals)


def test_what_else_a_folder_holds_is_skipped_and_an_empty_slice_has_failed(tmp_path):
    save(ct_dataset(), tmp_path / "1.dcm")
    apple_double = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ".ljust(4096, b"\0")
    (tmp_path / "__MACOSX").mkdir()
    for name, content in {
        "._1.dcm": apple_double,
        "__MACOSX/._1.dcm": apple_double,
        ".DS_Store": b"\0\0\0\1Bud1\0\0\x10\0\0\0\x08\0".ljust(6148, b"\0"),
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0"),
        "desktop.ini": b"[.ShellClassInfo]\r\n",
        "IM0001": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
    shutil.copy(get_testdata_file("dicomdirtests/DICOMDIR", download=False), tmp_path)
    (series,), refusals = find_series(tmp_path)
    assert len(series.slices) == 1
    assert {refusal.path.name: refusal.failure for refusal in refusals} == {
        name: False for name in ("._1.dcm", ".DS_Store", "Thumbs.db", "desktop.ini", "IM0001", "DICOMDIR")
    }
    (tmp_path / "2.dcm").touch()
    (failure,) = (refusal for refusal in find_series(tmp_path)[1] if refusal.failure)
    assert (failure.path.name, failure.reason) == ("2.dcm", "is empty: copy it again")


def test_native_files_that_are_cut_off_are_found_by_their_size(tmp_path):
    path = save(ct_dataset(stored_values(rows=64, columns=64)), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:5000])
    series, (refusal,) = find_series(tmp_path)
    assert series == []
    assert refusal.reason == "is cut off: it is smaller than its pixel data"


def test_a_single_file_that_is_not_ct_is_a_failure(tmp_path):
    path = tmp_path / "readme.txt"
    path.write_text("hello")
    _, (refusal,) = find_series(path)
    assert refusal.failure


def test_a_single_file_is_a_series(tmp_path):
    (series,), refusals = find_series(save(ct_dataset(), tmp_path / "a.dcm"))
    assert len(series.slices) == 1
    assert refusals == []


def test_a_folder_that_cannot_be_opened_is_a_failure(tmp_path, monkeypatch):
    save(ct_dataset(), tmp_path / "a.dcm")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def guarded(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    series, (refusal,) = find_series(tmp_path)
    assert len(series) == 1
    assert (refusal.path.name, refusal.failure) == ("closed", True)


def test_a_file_that_may_not_even_be_looked_at_is_a_failure_and_the_others_go_on(tmp_path, monkeypatch):
    save(ct_dataset(), tmp_path / "a.dcm")
    hidden = tmp_path / "hidden.dcm"
    hidden.write_bytes(b"")

    def guarded(function):
        def call(path, *args, **kwargs):
            if str(path) == str(hidden):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **kwargs)

        return call

    # A folder that may be listed but not searched.
    monkeypatch.setattr(os, "stat", guarded(os.stat))
    monkeypatch.setattr(builtins, "open", guarded(open))
    series, (refusal,) = find_series(tmp_path)
    assert len(series) == 1
    assert (refusal.path, refusal.failure) == (hidden, True)
    assert refusal.reason == "cannot be opened (PermissionError)"


def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(DicomError, match="nowhere: does not exist"):
        find_series(tmp_path / "nowhere")


def test_second_copies_are_reported_and_used_once(tmp_path):
    save(ct_dataset(), tmp_path / "a.dcm")
    shutil.copy(tmp_path / "a.dcm", tmp_path / "b.dcm")
    save(ct_dataset(stored_values(seed=9)), tmp_path / "c.dcm")
    (series,), (copy, other) = find_series(tmp_path)
    assert [part.path.name for part in series.slices] == ["a.dcm"]
    assert (copy.path.name, copy.failure) == ("b.dcm", False)
    assert (other.path.name, other.failure) == ("c.dcm", True)
    assert "has the same SOPInstanceUID as" in other.reason


def test_folders_that_link_to_each_other_are_read_once(tmp_path):
    (tmp_path / "b").mkdir()
    save(ct_dataset(), tmp_path / "b" / "1.dcm")
    (tmp_path / "b" / "back").symlink_to(tmp_path)
    (tmp_path / "b" / "itself").symlink_to("itself")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (series,), (itself,) = find_series(tmp_path)
    # At its own place, though the link comes first.
    assert [part.path for part in series.slices] == [tmp_path / "b" / "1.dcm"]
    assert (itself.path.name, itself.reason) == ("itself", "cannot be opened (OSError)")


def test_a_link_to_a_folder_outside_is_named_and_not_followed_and_one_to_a_file_is(tmp_path):
    archive, given = tmp_path / "archive", tmp_path / "in"
    (archive / "more").mkdir(parents=True)
    given.mkdir()
    save(ct_dataset(instance=1), archive / "1.dcm")
    save(ct_dataset(instance=2), archive / "more" / "2.dcm")
    (given / "one.dcm").symlink_to(archive / "1.dcm")
    (given / "more").symlink_to(archive / "more")
    (given / "up").symlink_to("..")
    (series,), refusals = find_series(given)
    assert [part.path.name for part in series.slices] == ["one.dcm"]
    assert [(refusal.path.name, refusal.failure) for refusal in refusals] == [("more", False), ("up", False)]
    assert {refusal.reason for refusal in refusals} == {
        "is a link to a folder outside of the input, which is not followed; give that folder itself"
    }


def test_an_input_that_is_itself_a_link_is_searched(tmp_path):
    (tmp_path / "archive" / "a").mkdir(parents=True)
    save(ct_dataset(), tmp_path / "archive" / "a" / "1.dcm")
    (tmp_path / "archive" / "b").symlink_to("a")
    (tmp_path / "in").symlink_to("archive")
    (series,), refusals = find_series(tmp_path / "in")
    assert [part.path for part in series.slices] == [tmp_path / "in" / "a" / "1.dcm"]
    assert refusals == []


@pytest.mark.parametrize(
    ("kept", "positions"),
    [("SliceLocation", [-20.0, -10.0, 0.0]), ("InstanceNumber", [1.0, 2.0, 3.0]), (None, None)],
)
def test_slices_without_a_position_are_sorted_by_the_next_best(tmp_path, kept, positions):
    for instance in (1, 2, 3):
        dataset = ct_dataset(instance=instance)
        dataset.SliceLocation = -10 * (instance - 1)
        for keyword in {"ImagePositionPatient", "SliceLocation", "InstanceNumber"} - {kept}:
            del dataset[keyword]
        save(dataset, tmp_path / f"{instance}.dcm")
    series, refusals = find_series(tmp_path)
    if kept:
        assert [part.position_mm for part in series[0].slices] == positions
    else:
        assert series == []
        assert [refusal.failure for refusal in refusals] == [True] * 3
        assert "to sort by" in refusals[0].reason


def test_a_missing_pixel_spacing_is_refused(tmp_path):
    dataset = ct_dataset()
    del dataset.PixelSpacing
    _, (refusal,) = find_series(save(dataset, tmp_path / "a.dcm"))
    assert refusal.reason == "has no usable PixelSpacing"


def test_emptied_uids_are_replaced_by_substitutes_that_keep_series_apart(tmp_path):
    for series in (1, 2):
        for instance in (1, 2, 3):
            dataset = ct_dataset(series=series, instance=instance, position_mm=instance)
            path = save(dataset, tmp_path / f"{series}{instance}.dcm")
            for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
                dataset[keyword].value = ""
            dataset.save_as(path)
    found, refusals = find_series(tmp_path)
    assert refusals == []
    assert sorted(len(series.slices) for series in found) == [3, 3]
    assert len({series.study_uid for series in found}) == 1
    assert len({series.uid for series in found}) == 2
    assert find_series(tmp_path)[0] == found


def test_own_output_is_recognised(tmp_path):
    ct = read_slice(save(ct_dataset(), tmp_path / "a.dcm"))
    write_slice(derive_slice(ct, ct.slice_hu, DerivedBy("edge", "0.1.0", "ab" * 32, 1.0)), tmp_path / "b.dcm")
    series, _ = find_series(tmp_path)
    assert sorted(part.denoised for part in series) == [False, True]


def test_real_series_are_found_whole_and_evenly_spaced(ct_data):
    series, refusals = find_series(ct_data / "normal_dose_test" / "biograph_abdomen_j2k")
    assert [len(part.slices) for part in series] == [20]
    np.testing.assert_allclose(np.diff([part.position_mm for part in series[0].slices]), 2.0, atol=1e-3)
    assert not any(refusal.failure for refusal in refusals)

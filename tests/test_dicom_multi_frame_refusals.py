"""Enhanced CT that is damaged or holds something else: one sentence, and the rest goes on."""

import contextlib
import os
import random
import shutil
import tracemalloc

import numpy as np
import pytest
from pydicom import uid

from kpn_tf import batch
from kpn_tf.denoiser import Denoiser
from kpn_tf.dicom import DicomError, find_series, read_slice
from tests.dicom_fixtures import ct_dataset, item, save, stored_values
from tests.enhanced_fixtures import enhanced_ct, shared_groups, slices_of
from tests.test_dicom_multi_frame import BOX

SCOUT = "is a localizer (scout view), not a slice"
MAP = "is a map computed from other slices, not a slice"
NO_SLOPE = "has no RescaleSlope, without which its values cannot be read as HU"


def frame_type(*values):
    return {"CTImageFrameTypeSequence": [item(FrameType=list(values))]}


def rescale(**attributes):
    return {"PixelValueTransformationSequence": [item(**attributes)]}


@pytest.mark.parametrize(
    ("groups", "reason", "failure"),
    [
        (frame_type("ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"), SCOUT, False),
        (frame_type("DERIVED", "PRIMARY", "PERFUSION", "MTT"), MAP, False),
        (
            rescale(RescaleSlope="1", RescaleIntercept="0", RescaleType="Z_EFF"),
            "has a RescaleType other than HU, HU_MOD or US: it is a map of another quantity, not a slice",
            False,
        ),
        (
            rescale(RescaleSlope="0", RescaleIntercept="0", RescaleType="HU"),
            "has an unusable RescaleSlope of 0",
            True,
        ),
        (rescale(RescaleIntercept="0"), NO_SLOPE, True),
        ({"PixelMeasuresSequence": [item(SliceThickness="3")]}, "has no usable PixelSpacing", True),
    ],
)
def test_of_mixed_frames_only_those_that_are_no_slices_are_left_out(tmp_path, groups, reason, failure):
    dataset = enhanced_ct(slices_of(4))
    for keyword, value in groups.items():
        setattr(dataset.PerFrameFunctionalGroupsSequence[2], keyword, value)
    path = save(dataset, tmp_path / "a.dcm")
    (series,), (refusal,) = find_series(path)
    assert [file.frame for file in series.slices] == [1, 2, 4]
    assert (refusal.path, refusal.reason, refusal.failure) == (path, f"frame 3 {reason}", failure)


def without(keyword):
    def change(dataset):
        del dataset.SharedFunctionalGroupsSequence[0][keyword]

    return change


def of_another_size(dataset):
    dataset.Rows = 64


def with_more_pixels(dataset):
    dataset["PixelData"].value += dataset.PixelData


def undescribed(dataset):
    del dataset.PerFrameFunctionalGroupsSequence


def all_scouts(dataset):
    dataset.SharedFunctionalGroupsSequence = [
        shared_groups(slices_of(1)[0], ("ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"))
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (all_scouts, SCOUT),
        (without("PixelValueTransformationSequence"), NO_SLOPE),
        (without("PixelMeasuresSequence"), "has no usable PixelSpacing"),
        (undescribed, "has no PerFrameFunctionalGroupsSequence, which describes its frames"),
        (of_another_size, "has pixel data of another size than that of the 3 frames in its header"),
        (with_more_pixels, "has pixel data of another size than that of the 3 frames in its header"),
        (lambda dataset: dataset.__delitem__("PixelData"), "has no pixel data, or is cut off before it"),
    ],
)
def test_what_is_wrong_with_the_whole_file_is_said_once(tmp_path, change, reason):
    save(ct_dataset(series=2), tmp_path / "good.dcm")
    dataset = enhanced_ct(slices_of(3))
    change(dataset)
    save(dataset, tmp_path / "a.dcm")
    (series,), (refusal,) = find_series(tmp_path)
    assert series.slices[0].path.name == "good.dcm"
    assert (refusal.path.name, refusal.reason) == ("a.dcm", reason)


@pytest.mark.parametrize("said", [b"2147483647", b"999999999999", b"4", b"-3", b"Secret", b""])
def test_a_number_of_frames_that_nothing_bears_out_is_not_believed(tmp_path, said):
    dataset = enhanced_ct(slices_of(3))
    dataset.NumberOfFrames = 1000000000
    path = save(dataset, tmp_path / "a.dcm")
    content = path.read_bytes()
    assert content.count(b"IS\x0a\x001000000000") == 1
    path.write_bytes(content.replace(b"IS\x0a\x001000000000", b"IS\x0c\x00" + said.ljust(12)))
    tracemalloc.start()
    _, (refusal,) = find_series(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refusal.reason in (
        "describes 3 frames, and its NumberOfFrames says otherwise",
        "has a NumberOfFrames above 8192, the most in one object",
    )
    assert peak < 4e6


def test_too_few_compressed_frames_are_counted(tmp_path):
    dataset = enhanced_ct(slices_of(3))
    path = save(dataset, tmp_path / "a.dcm", uid.JPEG2000Lossless)
    dataset.NumberOfFrames = 4
    dataset.PerFrameFunctionalGroupsSequence.append(dataset.PerFrameFunctionalGroupsSequence[0])
    dataset.save_as(path)
    _, (refusal,) = find_series(path)
    assert refusal.reason == "has compressed data of 3 frames; its header describes 4"


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [
        (uid.ExplicitVRLittleEndian, "is cut off: it is smaller than its pixel data"),
        (uid.JPEGLSLossless, "is cut off inside its pixel data"),
    ],
)
def test_a_file_cut_off_in_its_pixels_is_refused_once(tmp_path, syntax, reason):
    path = save(enhanced_ct(slices_of(3)), tmp_path / "a.dcm", syntax)
    path.write_bytes(path.read_bytes()[:-1000])
    _, (refusal,) = find_series(path)
    assert (refusal.reason, refusal.failure) == (reason, True)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEGLSLossless, uid.RLELossless])
def test_a_file_damaged_anywhere_is_refused_or_finite(tmp_path, syntax):
    path = save(enhanced_ct(slices_of(3)), tmp_path / "a.dcm", syntax)
    content = path.read_bytes()
    for seed in range(60):
        rng = random.Random(seed)
        damaged = bytearray(content)
        if seed % 3:
            for _ in range(rng.choice([1, 3, 30])):
                damaged[rng.randrange(132, len(content))] = rng.randrange(256)
        else:
            del damaged[rng.randrange(132, len(content)) :]
        path.write_bytes(damaged)
        series, refusals = find_series(path)
        assert series or refusals
        for file in (file for part in series for file in part.slices):
            with contextlib.suppress(DicomError):
                assert np.isfinite(read_slice(file.path, file.frame).slice_hu).all()


def test_frames_and_files_are_not_taken_for_each_other(tmp_path):
    many, one = save(enhanced_ct(slices_of(2)), tmp_path / "a.dcm"), save(ct_dataset(), tmp_path / "b.dcm")
    for path, frame, reason in (
        (many, None, r"is Enhanced CT Image Storage \(multi-frame\), whose frames are read one by one"),
        (many, 0, "frame 0 does not exist; the file has frames 1 to 2"),
        (many, 3, "frame 3 does not exist; the file has frames 1 to 2"),
        (one, 1, "frame 1 has no PerFrameFunctionalGroupsSequence, which describes its frames"),
        (tmp_path / "none.dcm", 1, r"frame 1 cannot be opened \(FileNotFoundError\)"),
    ):
        with pytest.raises(DicomError, match=f": {reason}$"):
            read_slice(path, frame)


def test_a_frame_that_cannot_be_decoded_is_named_and_the_others_are_written(tmp_path):
    dataset = enhanced_ct(slices_of(3))
    path = save(dataset, tmp_path / "a.dcm", uid.JPEGLSLossless)
    content = bytearray(path.read_bytes())
    # Rows, in the first codestream's own header.
    content[content.index(b"\xff\xd8\xff\xf7") + 7] = 99
    path.write_bytes(content)
    report = batch.denoise(path, tmp_path / "out", Denoiser(BOX, threads=1))
    (refusal,) = report.refusals
    assert refusal.reason == (
        "frame 1 has pixel data that cannot be decoded: "
        "the compressed data is 25381 x 33 x 1, the header says 37 x 33 x 1"
    )
    assert (report.series[0].outcome, report.slices_written) == ("incomplete", 2)


def test_a_second_copy_is_reported_once(tmp_path):
    save(enhanced_ct(slices_of(3)), tmp_path / "a.dcm")
    shutil.copy(tmp_path / "a.dcm", tmp_path / "b.dcm")
    save(enhanced_ct([*slices_of(3), ct_dataset(stored_values(seed=9), position_mm=99)]), tmp_path / "c.dcm")
    (series,), (copied, other) = find_series(tmp_path)
    assert {(file.path.name, file.frame) for file in series.slices} == {("a.dcm", n) for n in (1, 2, 3)}
    assert (copied.path.name, copied.failure) == ("b.dcm", False)
    assert (other.path.name, other.failure) == ("c.dcm", True)


def test_a_file_that_changed_is_read_again(tmp_path):
    path = save(enhanced_ct(slices_of(3)), tmp_path / "a.dcm")
    assert read_slice(path, 3).slice_hu.shape == (37, 33)
    save(enhanced_ct(slices_of(2)), path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DicomError, match="frame 3 does not exist; the file has frames 1 to 2"):
        read_slice(path, 3)

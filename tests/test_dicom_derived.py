import copy
import dataclasses
import re
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file

from kpn_tf.dicom import (
    DerivedBy,
    OutputExistsError,
    SimulatedBy,
    derive_slice,
    derived_series_uid,
    find_series,
    read_slice,
    volume_suffix,
    write_slice,
)
from kpn_tf.dicom.identity import identity
from kpn_tf.dicom.reading.header import pixel_header
from kpn_tf.dicom.writing.derived_by import derived_series_number
from tests.dicom_fixtures import ct_dataset, item, save, stored_values, twelve_bit_jpeg

BY = DerivedBy(
    model="edge",
    version="0.1.0",
    weights_sha256="0123456789abcdef" * 4,
    strength=0.75,
    file_sha256="fedcba9876543210" * 4,
)


def source(tmp_path, dataset=None, syntax=uid.ExplicitVRLittleEndian):
    return read_slice(save(ct_dataset() if dataset is None else dataset, tmp_path / "source.dcm", syntax))


def noisy(ct, seed=11):
    return ct.slice_hu + np.random.default_rng(seed).normal(0, 20, ct.slice_hu.shape)


def written(tmp_path, ct, denoised_hu=None, by=BY):
    path = tmp_path / "derived.dcm"
    path.unlink(missing_ok=True)
    write_slice(derive_slice(ct, noisy(ct) if denoised_hu is None else denoised_hu, by), path)
    return path


@pytest.mark.parametrize("slope", ["1", "0.5", "2.0002442", "0.1"])
@pytest.mark.parametrize(("signed", "bits_stored"), [(True, 16), (True, 12), (False, 12), (False, 16)])
def test_the_derived_slice_reads_back_within_half_a_stored_unit(tmp_path, slope, signed, bits_stored):
    stored = stored_values(signed=signed, bits_stored=bits_stored)
    ct = source(tmp_path, ct_dataset(stored, bits_stored=bits_stored, slope=slope, intercept="-1024"))
    pixels = pixel_header("-", ct.dataset)
    ends_hu = [value * pixels.slope + pixels.intercept_hu for value in pixels.stored_range]
    denoised_hu = np.clip(noisy(ct), *ends_hu)
    back = read_slice(written(tmp_path, ct, denoised_hu))
    error_hu = np.abs(back.slice_hu - denoised_hu)[~ct.padding]
    assert error_hu.max() <= float(slope) / 2 + 1e-3
    np.testing.assert_array_equal(back.slice_hu[ct.padding], ct.slice_hu[ct.padding])
    for keyword in ("RescaleSlope", "RescaleIntercept", "BitsStored", "HighBit", "PixelRepresentation"):
        assert back.dataset[keyword].value == ct.dataset[keyword].value


def test_an_unchanged_slice_keeps_every_stored_value(tmp_path):
    ct = source(tmp_path, ct_dataset(slope="2.0002442", intercept="-4047"))
    derived = derive_slice(ct, ct.slice_hu, BY)
    np.testing.assert_array_equal(np.frombuffer(derived.PixelData, "<i2").reshape(37, 33), stored_values())


def test_values_are_rounded_half_to_even_and_clipped_before_the_cast(tmp_path):
    ct = source(tmp_path, ct_dataset(stored_values(signed=False, bits_stored=12), bits_stored=12))
    denoised_hu = np.zeros((37, 33))
    denoised_hu[0, :7] = [0.5, 1.5, 2.5, -40.0, 70000.0, 4095.4, 1.4999]
    derived = derive_slice(ct, denoised_hu, BY)
    assert np.frombuffer(derived.PixelData, "<u2")[:7].tolist() == [0, 2, 2, 0, 4095, 4095, 1]


def test_padding_comes_back_bit_for_bit(tmp_path):
    stored = stored_values()
    stored[:3] = -3024
    stored[0, 0] = -32768
    dataset = ct_dataset(stored)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 3024)  # the right bits with the wrong sign
    ct = source(tmp_path, dataset)
    denoised_hu = noisy(ct)
    denoised_hu[:3] = np.nan  # whatever was computed there is not looked at
    back = read_slice(written(tmp_path, ct, denoised_hu))
    np.testing.assert_array_equal(back.padding, ct.padding)
    np.testing.assert_array_equal(back.slice_hu[:3], stored[:3])
    assert back.dataset["PixelPaddingValue"].VR == "SS"
    assert back.dataset.PixelPaddingValue == -3024


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    ct = source(tmp_path)
    denoised_hu = noisy(ct)
    denoised_hu[4, 4] = value
    with pytest.raises(ValueError, match="Expected finite values in denoised_hu"):
        derive_slice(ct, denoised_hu, BY)


def test_another_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected denoised_hu of shape \(37, 33\)\. Received: \(33, 37\)"):
        derive_slice(source(tmp_path), np.zeros((33, 37)), BY)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"strength": 1.5}, "strength from 0 to 1"),
        ({"model": ""}, "model of 1 to 64"),
        ({"model": "a\\b"}, "backsl"),
    ],
)
def test_an_impossible_maker_is_refused(changes, text):
    values = {"model": "edge", "version": "1", "weights_sha256": "ab", "strength": 1.0} | changes
    with pytest.raises(ValueError, match=text):
        DerivedBy(**values)


def test_the_derived_slice_has_its_own_identity_and_names_its_source(tmp_path):
    ct = source(tmp_path)
    derived = pydicom.dcmread(written(tmp_path, ct))
    old = ct.dataset
    assert derived.SOPInstanceUID != old.SOPInstanceUID
    assert derived.file_meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
    assert derived.SeriesInstanceUID == derived_series_uid(identity("source", old).series_key, BY)
    assert derived.SOPInstanceUID.is_valid
    assert derived.SeriesInstanceUID.is_valid
    assert derived.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert list(derived.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert derived.SeriesNumber == derived_series_number(old.SeriesNumber, BY)
    assert derived.SeriesDescription == "abdomen KPN  75%, research use"
    assert derived.ImageComments == "For research use, not for diagnosis."
    assert derived.DerivationDescription == (
        f"Noise removed by kpn_tf 0.1.0, network edge, file SHA-256 {BY.file_sha256}, "
        f"weights SHA-256 {BY.weights_sha256}, strength 0.75. "
        "For research use, not for diagnosis."
    )
    assert [code.CodeValue for code in derived.DerivationCodeSequence] == ["113087"]
    (image,) = derived.SourceImageSequence
    assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (
        old.SOPClassUID,
        old.SOPInstanceUID,
    )
    assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    (equipment,) = derived.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("edge", "0.1.0")
    assert equipment.DeviceSerialNumber == BY.file_sha256
    assert equipment.ContributionDescription == derived.DerivationDescription


def test_patient_study_geometry_and_acquisition_are_kept(tmp_path):
    ct = source(tmp_path)
    derived = pydicom.dcmread(written(tmp_path, ct))
    changed = {
        "ImageType", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "PixelData",
    }  # fmt: skip
    for element in ct.dataset:
        if element.keyword not in changed:
            assert derived[element.tag].value == element.value, element.keyword


def test_uids_depend_on_source_weights_and_strength_alone(tmp_path):
    ct = source(tmp_path)
    first, again = derive_slice(ct, noisy(ct), BY), derive_slice(ct, noisy(ct), BY)
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (again.SOPInstanceUID, again.SeriesInstanceUID)
    others = [
        dataclasses.replace(BY, strength=0.5),
        dataclasses.replace(BY, file_sha256="ff" * 32),
        dataclasses.replace(BY, version="0.1.1"),
    ]
    uids = {derived_series_uid("1.2.3", by) for by in [BY, *others]}
    uids |= {derived_series_uid("1.2.4", BY)}
    assert len(uids) == 5
    assert all(len(value) <= 64 and re.fullmatch(r"2\.25\.[1-9]\d*", value) for value in uids)


def test_every_network_strength_and_dose_has_a_series_number_of_its_own():
    makers = [dataclasses.replace(BY, strength=tenths / 10) for tenths in range(11)]
    makers += [
        dataclasses.replace(BY, model=name, device=device) for name in "ab" for device in ("cpu", "gpu")
    ]
    makers += [dataclasses.replace(BY, file_sha256="ff" * 32), dataclasses.replace(BY, version="0.2.0")]
    makers += [SimulatedBy("0.1.0", dose, seed, "ab") for dose in (0.1, 0.25, 0.5) for seed in range(3)]
    for number in (0, 3, 9999):
        derived = [derived_series_number(number, by) for by in makers]
        assert len(set(derived)) == len(makers)
        assert all(10_000 <= one < 2**31 and one % 10_000 == number for one in derived)
        assert derived == [derived_series_number(number, by) for by in makers]
    assert derived_series_number(20_001, BY) - derived_series_number(10_001, BY) == 10_000
    # Numbers that leave no room.
    assert all(
        10_000 <= derived_series_number(number, BY) < 2**31
        for number in (-(2**31), -1, 147_483_647, 147_483_648, 2**31 - 1)
    )


def test_what_was_run_is_named_by_its_file_and_by_the_weights_in_it_as_far_as_they_are_known():
    only_file = dataclasses.replace(BY, weights_sha256=None)
    assert f"file SHA-256 {BY.file_sha256}, strength" in only_file.description
    assert only_file.uid_words == BY.uid_words
    only_weights = dataclasses.replace(BY, file_sha256=None)
    assert f"network edge, weights SHA-256 {BY.weights_sha256}, strength" in only_weights.description
    assert only_weights.serial_number == BY.weights_sha256
    with pytest.raises(ValueError, match="Expected weights_sha256 of 1 to 64 characters"):
        dataclasses.replace(BY, file_sha256=None, weights_sha256=None)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    ct = source(tmp_path)
    assert written(tmp_path, ct).read_bytes() == written(tmp_path, ct).read_bytes()


def test_the_source_is_never_altered(tmp_path):
    dataset = ct_dataset()
    dataset.DerivationCodeSequence = [
        item(CodeValue="113040", CodingSchemeDesignator="DCM", CodeMeaning="Lossy")
    ]
    ct = source(tmp_path, dataset)
    before = copy.deepcopy(ct.dataset), ct.slice_hu.copy(), ct.padding.copy()
    derived = derive_slice(ct, noisy(ct), BY)
    derived.DerivationCodeSequence[0].CodeValue = "changed"
    derived.PixelSpacing = [9, 9]
    assert ct.dataset == before[0]
    assert ct.dataset.file_meta == before[0].file_meta
    np.testing.assert_array_equal(ct.slice_hu, before[1])
    np.testing.assert_array_equal(ct.padding, before[2])


def test_what_described_the_old_pixels_is_dropped(tmp_path):
    dataset = ct_dataset()
    dataset.add_new("SmallestImagePixelValue", "SS", -1024)
    dataset.add_new("LargestImagePixelValue", "SS", 1800)
    dataset.IconImageSequence = [item(Rows=1, Columns=1)]
    dataset.InstanceCreationDate = "20200102"
    dataset.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "OB", b"\0" * 10)
    derived = derive_slice(source(tmp_path, dataset), stored_values(), BY)
    for keyword in (
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "IconImageSequence",
        "InstanceCreationDate",
    ):
        assert keyword not in derived
    assert not any(element.tag.is_private for element in derived)


def test_overlays_inside_the_pixels_go_and_others_stay(tmp_path):
    stored = stored_values(signed=False, bits_stored=12)
    separate = ct_dataset(stored, bits_stored=12)
    separate.add_new(0x60003000, "OW", b"\0" * 10)
    assert (0x6000, 0x3000) in derive_slice(source(tmp_path, separate), stored, BY)
    embedded = ct_dataset(stored | 0x8000, bits_stored=12)
    embedded.add_new(0x60000102, "US", 15)
    assert (0x6000, 0x0102) not in derive_slice(source(tmp_path, embedded), stored, BY)


def test_earlier_history_is_kept(tmp_path):
    dataset = ct_dataset()
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "MPR"]
    dataset.DerivationDescription = "averaged"
    dataset.ImageComments = "late phase"
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = "8"
    dataset.ContributingEquipmentSequence = [item(Manufacturer="someone")]
    dataset.SourceImageSequence = [item(ReferencedSOPInstanceUID="1.2.3")]
    ct = source(tmp_path, dataset)
    derived = derive_slice(ct, noisy(ct), BY)
    assert list(derived.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "MPR"]
    assert derived.DerivationDescription.endswith("diagnosis. Before that: averaged")
    assert derived.ImageComments == "For research use, not for diagnosis. late phase"
    assert (derived.LossyImageCompression, derived.LossyImageCompressionRatio) == ("01", 8)
    assert [part.Manufacturer for part in derived.ContributingEquipmentSequence] == ["someone", "kpn_tf"]
    assert [part.ReferencedSOPInstanceUID for part in derived.SourceImageSequence] == [
        ct.dataset.SOPInstanceUID
    ]


def test_a_lossy_syntax_without_the_flag_leaves_the_flag(tmp_path):
    ct = read_slice(twelve_bit_jpeg(tmp_path / "source.dcm"))
    assert "LossyImageCompression" not in ct.dataset
    derived = derive_slice(ct, noisy(ct), BY)
    assert derived.LossyImageCompression == "01"
    assert derived.LossyImageCompressionRatio > 1
    assert derived.LossyImageCompressionMethod == "ISO_10918_1"


def test_long_descriptions_and_numbers_stay_within_their_limits(tmp_path):
    dataset = ct_dataset()
    dataset.SeriesDescription = "ÄÖ" * 32
    dataset.SeriesNumber = 2**31 - 1
    dataset.DerivationDescription = "x" * 1024
    ct = source(tmp_path, dataset)
    derived = pydicom.dcmread(written(tmp_path, ct))
    assert len(derived.SeriesDescription) == 64
    assert derived.SeriesDescription == "ÄÖ" * 20 + "Ä KPN  75%, research use"
    assert 10_000 < derived.SeriesNumber < 2**31
    assert derived.SeriesNumber % 10_000 == 3647
    assert len(derived.DerivationDescription) == 1024


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.JPEGLSLossless,
        uid.JPEG2000Lossless,
        uid.RLELossless,
    ],
    ids=lambda syntax: syntax.name,
)
def test_every_source_syntax_gives_the_same_derived_slice(tmp_path, syntax):
    dataset = ct_dataset()
    dataset.add_new("PixelPaddingValue", "SS", -1024)
    expected = written(tmp_path, source(tmp_path, copy.deepcopy(dataset))).read_bytes()
    assert written(tmp_path, source(tmp_path, dataset, syntax)).read_bytes() == expected


def test_derived_slices_sort_as_their_sources(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for instance, position_mm in enumerate([6.0, -3.0, 12.5], start=1):
        path = save(
            ct_dataset(instance=instance, position_mm=position_mm), tmp_path / "in" / f"{instance}.dcm"
        )
        ct = read_slice(path)
        write_slice(derive_slice(ct, noisy(ct), BY), tmp_path / "out" / f"{9 - instance}.dcm")
    (before,), _ = find_series(tmp_path / "in")
    (after,), _ = find_series(tmp_path / "out")
    assert [part.position_mm for part in after.slices] == [part.position_mm for part in before.slices]
    assert (after.pixel_spacing_mm, after.study_uid) == (before.pixel_spacing_mm, before.study_uid)
    assert after.uid == derived_series_uid(before.key, BY)
    assert (before.strength, after.strength) == (None, 0.75)


def test_a_series_whose_slices_are_denoised_at_several_strengths_has_none_of_its_own(tmp_path):
    (tmp_path / "out").mkdir()
    by = dataclasses.replace(BY, wanted_noise_hu=12.0)
    for instance, strength in enumerate([0.25, 0.3], start=1):
        ct = source(tmp_path, ct_dataset(instance=instance, position_mm=3.0 * instance))
        derived = derive_slice(ct, noisy(ct), dataclasses.replace(by, strength=strength))
        write_slice(derived, tmp_path / "out" / f"{instance}.dcm")
    (series,), _ = find_series(tmp_path / "out")
    assert len(series.slices) == 2
    assert series.strength is None


def test_nothing_is_ever_overwritten(tmp_path):
    ct = source(tmp_path)
    derived = derive_slice(ct, noisy(ct), BY)
    path = tmp_path / "taken"
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match="exists already and is never overwritten") as caught:
        write_slice(derived, path)
    assert isinstance(caught.value, FileExistsError)
    assert path.read_text() == "precious"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        write_slice(derived, tmp_path / "link")


def test_a_file_system_without_hard_links_is_written_to_and_protected(tmp_path, monkeypatch):
    def no_link(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_link)
    ct = source(tmp_path)
    derived = derive_slice(ct, noisy(ct), BY)
    write_slice(derived, tmp_path / "a.dcm")
    read_slice(tmp_path / "a.dcm")
    monkeypatch.setattr("os.path.lexists", lambda _: False)  # somebody was faster
    with pytest.raises(OutputExistsError):
        write_slice(derived, tmp_path / "a.dcm")


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    ct = source(tmp_path)
    derived = derive_slice(ct, noisy(ct), BY)

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kpn_tf.dicom.writing.file.write_elements", full_disk)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="cannot be written: No space left on device"):
        write_slice(derived, tmp_path / "out" / "a.dcm")
    assert list((tmp_path / "out").iterdir()) == []


def test_derived_files_are_readable_by_their_owner_alone(tmp_path):
    assert written(tmp_path, source(tmp_path)).stat().st_mode & 0o777 == 0o600


def errors_of(path):
    """dciodvfy's error lines without the values in them."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    said = subprocess.run(["dciodvfy", path], capture_output=True, check=False).stderr.decode("latin1")
    return {re.sub(r"<[^>]*>", "<>", line) for line in said.splitlines() if line.startswith("Error")}


def with_uids(path, tmp_path):
    """The file, or, where anonymisation emptied its UIDs, a copy that dciodvfy recognises as CT."""
    dataset = pydicom.dcmread(path)
    if dataset.SOPClassUID:
        return path
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = dataset.StudyInstanceUID = "1.2.3"
    dataset.save_as(tmp_path / "with_uids.dcm")
    return tmp_path / "with_uids.dcm"


def test_dciodvfy_finds_no_fault_in_a_slice_derived_from_a_faultless_one(tmp_path):
    ct = source(tmp_path)
    assert errors_of(tmp_path / "source.dcm") == set()
    assert errors_of(written(tmp_path, ct)) == set()


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_dciodvfy_finds_no_fault_in_what_has_another_encoding_than_its_source(tmp_path, syntax):
    dataset = ct_dataset()
    table = item(LUTExplanation="all")
    # Longer than 16 bits can say, and of a VR that the dictionary leaves open.
    table.add_new("LUTDescriptor", "US", [0, 0, 16])
    table.add_new("LUTData", "OW", np.arange(65536).astype("<u2").tobytes())
    dataset.VOILUTSequence = [table]
    dataset.RequestAttributesSequence = [item(RequestedProcedureID="1", ScheduledProcedureStepID="2")]
    for tag, vr, value in (
        (0x60000010, "US", 37),
        (0x60000011, "US", 33),
        (0x60000040, "CS", "G"),
        (0x60000050, "SS", [1, 1]),
        (0x60000100, "US", 1),
        (0x60000102, "US", 0),
        (0x60003000, "OW", b"\x55" * 154),
    ):
        dataset.add_new(tag, vr, value)
    ct = source(tmp_path, dataset, syntax)
    assert errors_of(written(tmp_path, ct)) <= errors_of(tmp_path / "source.dcm")


def test_dciodvfy_finds_no_fault_that_the_source_from_pydicom_did_not_have(tmp_path):
    for name in ("CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"):
        path = get_testdata_file(name, download=False)
        assert errors_of(written(tmp_path, read_slice(path))) <= errors_of(path)


def test_dciodvfy_finds_no_fault_that_a_real_source_did_not_have(tmp_path, ct_data):
    # One slice of each series: eight manufacturers' headers, fourteen transfer syntaxes.
    series = [found for found in find_series(ct_data)[0] if not volume_suffix(found.slices[0].path)]
    assert len(series) >= 35
    for found in series:
        path = found.slices[len(found.slices) // 2].path
        assert errors_of(written(tmp_path, read_slice(path))) <= errors_of(with_uids(path, tmp_path)), path


def test_results_of_a_gpu_have_uids_of_their_own_and_say_so():
    on_gpu = dataclasses.replace(BY, device="gpu")
    assert derived_series_uid("1.2.3", on_gpu) != derived_series_uid("1.2.3", BY)
    assert "strength 0.75, on a GPU." in on_gpu.description

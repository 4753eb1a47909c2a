"""Enhanced CT: each frame reads, and is derived from, as if it were a file of its own."""

import copy
import shutil
import struct
import subprocess
import time
import tracemalloc

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from kpn_tf import batch
from kpn_tf.denoiser import Denoiser
from kpn_tf.dicom import DerivedBy, SimulatedBy, derive_slice, find_series, read_slice, write_slice
from kpn_tf.dicom.reading import multi_frame
from tests.command import BOX
from tests.dicom_fixtures import ct_dataset, item, save, stored_values
from tests.enhanced_fixtures import LEGACY_CT, enhanced_ct, slices_of

BY = DerivedBy(model="edge", version="0.1.0", weights_sha256="0123456789abcdef" * 4, strength=0.75)
SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.JPEGLosslessSV1,
    uid.RLELossless,
]


def frames_of(path):
    """Every frame that is found in a file, as `CTSlice`s in order of position."""
    (series,), refusals = find_series(path)
    assert refusals == []
    return [read_slice(file.path, file.frame) for file in series.slices]


def derived(tmp_path, ct):
    path = tmp_path / "derived.dcm"
    path.unlink(missing_ok=True)
    write_slice(derive_slice(ct, ct.slice_hu, BY), path)
    return path


@pytest.mark.parametrize("sop_class", [uid.EnhancedCTImageStorage, LEGACY_CT])
def test_denoising_an_enhanced_object_gives_the_slices_that_its_frames_give_as_files(tmp_path, sop_class):
    slices = slices_of(3)
    for folder in ("single", "multi"):
        (tmp_path / folder).mkdir()
    save(enhanced_ct(slices, sop_class), tmp_path / "multi" / "a.dcm")
    for n, dataset in enumerate(slices):
        save(dataset, tmp_path / "single" / f"{n}.dcm")
    found = []
    for folder in ("single", "multi"):
        report = batch.denoise(tmp_path / folder, tmp_path / f"{folder}_out", Denoiser(BOX, threads=1))
        assert report.ok
        assert (report.slices_written, report.series[0].kernel) == (3, "SOFT")
        paths = (tmp_path / f"{folder}_out" / report.series[0].derived_uid).iterdir()
        found.append(sorted(map(pydicom.dcmread, paths), key=lambda dataset: dataset.InstanceNumber))
    same = (
        "Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
        "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "RescaleType",
        "WindowCenter", "WindowWidth", "ConvolutionKernel", "KVP", "ImageType", "InstanceNumber", "PatientID",
        "SeriesInstanceUID", "SOPClassUID", "BitsStored", "SeriesDescription", "DerivationDescription",
    )  # fmt: skip
    for single, multi in zip(*found, strict=True):
        for keyword in same:
            assert multi[keyword].value == single[keyword].value, keyword
    assert len({dataset.SOPInstanceUID for datasets in found for dataset in datasets}) == 6


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("signed", "bits_stored"), [(True, 16), (False, 12)])
def test_frames_in_every_syntax_hold_the_same_hu(tmp_path, syntax, signed, bits_stored):
    slices = [
        ct_dataset(
            stored_values(signed=signed, bits_stored=bits_stored, seed=n),
            instance=n,
            position_mm=n,
            bits_stored=bits_stored,
            slope="0.5",
            intercept="-1024",
        )
        for n in (1, 2, 3)
    ]
    for dataset in slices:
        dataset.add_new("PixelPaddingValue", "SS" if signed else "US", 7)
    expected = [read_slice(save(copy.deepcopy(dataset), tmp_path / "single.dcm")) for dataset in slices]
    enhanced = enhanced_ct(slices)
    for ct, single in zip(frames_of(save(enhanced, tmp_path / "a.dcm", syntax)), expected, strict=True):
        np.testing.assert_array_equal(ct.slice_hu, single.slice_hu)
        np.testing.assert_array_equal(ct.padding, single.padding)


@pytest.mark.parametrize(
    ("tables", "fragments"),
    # An extended table has no room for fragments (PS3.3 C.7.6.3.1.8).
    [("basic", 1), ("basic", 3), ("extended", 1), ("none", 1), ("none", 3), ("wrong", 1), ("wrong", 3)],
)
def test_frames_in_fragments_are_found_with_and_without_tables(tmp_path, tables, fragments):
    dataset = enhanced_ct(slices_of(4))
    save(dataset, tmp_path / "a.dcm", uid.JPEGLSLossless)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=4))
    value = encapsulate(frames, fragments_per_frame=fragments, has_bot=tables in ("basic", "wrong"))
    if tables == "wrong":  # it points into the middle of fragments
        value = value[:12] + struct.pack("<3I", 10, 20, 30) + value[24:]
    if tables == "extended":
        value, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    dataset["PixelData"].value = value
    dataset.save_as(tmp_path / "a.dcm")
    for n, ct in enumerate(frames_of(tmp_path / "a.dcm")):
        np.testing.assert_array_equal(ct.slice_hu, stored_values(seed=n))


def test_what_a_group_of_the_frame_says_goes_before_the_shared_one(tmp_path):
    dataset = enhanced_ct(slices_of(3))
    own = dataset.PerFrameFunctionalGroupsSequence[1]
    own.FrameVOILUTSequence = [item(WindowCenter="-600", WindowWidth="1500")]
    own.PixelValueTransformationSequence = [item(RescaleSlope="2", RescaleIntercept="-8", RescaleType="HU")]
    own.CTReconstructionSequence = [item(ConvolutionKernel="SHARP")]
    own.CTXRayDetailsSequence = []  # empty: says nothing
    first, second, third = frames_of(save(dataset, tmp_path / "a.dcm"))
    assert (second.dataset.WindowCenter, second.dataset.WindowWidth) == (-600, 1500)
    assert second.dataset.ConvolutionKernel == "SHARP"
    assert "ReconstructionAlgorithm" not in second.dataset
    assert second.dataset.KVP == 120
    np.testing.assert_array_equal(second.slice_hu, stored_values(seed=1) * 2.0 - 8)
    for ct in (first, third):
        assert (ct.dataset.WindowCenter, ct.dataset.ConvolutionKernel) == (40, "SOFT")


def test_a_frame_has_the_attributes_of_a_slice_and_none_of_an_object_with_many(tmp_path):
    dataset = enhanced_ct(slices_of(3))
    dataset.ConcatenationUID, dataset.InConcatenationNumber = "1.2.3", 2
    dataset.ConcatenationFrameOffsetNumber = 100
    _, ct, _ = frames_of(save(dataset, tmp_path / "a.dcm"))
    frame = pydicom.dcmread(derived(tmp_path, ct))
    assert list(frame.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert frame.AcquisitionDateTime == "20200102101112"
    assert (frame.AcquisitionNumber, frame.InstanceNumber) == (7, 102)
    assert (frame.ExposureTime, frame.XRayTubeCurrent, frame.Exposure) == (500, 211, 106)
    assert (frame.CTDIvol, frame.SpiralPitchFactor, frame.TableHeight) == (7.25, 0.9, 140)
    assert frame.AnatomicRegionSequence[0].CodeMeaning == "Abdomen"
    gone = {
        "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "StackID",
        "DimensionIndexSequence", "DimensionOrganizationSequence", "DimensionIndexValues", "FrameType",
        "ConcatenationUID", "InConcatenationNumber", "ConcatenationFrameOffsetNumber", "PixelPresentation",
    }  # fmt: skip
    assert gone.isdisjoint(frame.dir())


def test_a_frames_comment_keeps_its_bytes_whatever_its_character_set(tmp_path):
    dataset = enhanced_ct(slices_of(2))
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for own in dataset.PerFrameFunctionalGroupsSequence:
        own.FrameContentSequence[0].FrameComments = "Z" * 6
    path = save(dataset, tmp_path / "a.dcm", uid.ImplicitVRLittleEndian)
    latin = "Mühle!".encode("latin1")
    path.write_bytes(path.read_bytes().replace(b"Z" * 6, latin))
    ct = frames_of(path)[0]
    write_slice(derive_slice(ct, ct.slice_hu, BY), tmp_path / "derived.dcm")
    assert b". " + latin in (tmp_path / "derived.dcm").read_bytes()


def test_a_converters_unassigned_attributes_are_those_of_the_slice(tmp_path):
    dataset = enhanced_ct(slices_of(2), LEGACY_CT)
    dataset.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [
        item(ProtocolName="abdomen", PixelSpacing=[9, 9], PatientID="somebody else")
    ]
    for n, own in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        own.UnassignedPerFrameConvertedAttributesSequence = [
            item(
                InstanceNumber=41 + n,
                SliceLocation=f"{n}",
                ContributingEquipmentSequence=[item(Manufacturer="a")],
            )
        ]
    dataset.ContributingEquipmentSequence = [item(Manufacturer="converter")]
    _, ct = frames_of(save(dataset, tmp_path / "a.dcm"))
    assert (ct.dataset.ProtocolName, ct.dataset.InstanceNumber, ct.dataset.SliceLocation) == (
        "abdomen",
        42,
        1,
    )
    assert (ct.dataset.PixelSpacing, ct.dataset.PatientID) == ([0.75, 0.75], "P1")
    frame = pydicom.dcmread(derived(tmp_path, ct))
    assert [part.Manufacturer for part in frame.ContributingEquipmentSequence] == ["a", "converter", "kpn_tf"]


def test_a_derived_frame_names_its_object_and_its_number(tmp_path):
    dataset = enhanced_ct(slices_of(3))
    path = save(dataset, tmp_path / "a.dcm")
    _, _, ct = frames_of(path)
    (image,) = pydicom.dcmread(derived(tmp_path, ct)).SourceImageSequence
    assert image.ReferencedSOPClassUID == uid.EnhancedCTImageStorage
    assert image.ReferencedSOPInstanceUID == dataset.SOPInstanceUID
    assert image.ReferencedFrameNumber == 3
    content = derived(tmp_path, ct).read_bytes()
    multi_frame._kept.clear()
    assert derived(tmp_path, read_slice(path, 3)).read_bytes() == content


def test_dciodvfy_finds_no_fault_in_slices_derived_from_frames(tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    bare = enhanced_ct(slices_of(1))
    for group in ("CTXRayDetailsSequence", "CTExposureSequence"):
        del bare.SharedFunctionalGroupsSequence[0][group]
    del bare.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].FrameAcquisitionNumber
    bare.Laterality = "L"
    del bare.AcquisitionDateTime
    for dataset in (enhanced_ct(slices_of(2)), enhanced_ct(slices_of(2), LEGACY_CT), bare):
        for ct in frames_of(save(dataset, tmp_path / "a.dcm")):
            command = ["dciodvfy", derived(tmp_path, ct)]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
            assert "CTImage" in said
            assert "Error" not in said


def test_own_slices_stay_own_after_a_conversion(tmp_path):
    for by, denoised in ((BY, True), (SimulatedBy("1", 0.25, 0, "ab"), False)):
        sources = slices_of(2)
        own = []
        for n, dataset in enumerate(sources):
            ct = read_slice(save(dataset, tmp_path / f"source{n}.dcm"))
            own.append(derive_slice(ct, ct.slice_hu, by))
        made = enhanced_ct(own, LEGACY_CT)
        (series,), _ = find_series(save(made, tmp_path / "own.dcm"))
        assert (series.denoised, series.simulated) == (denoised, not denoised)


def test_frames_of_several_phases_and_geometries_are_told_apart(tmp_path):
    slices = slices_of(4)
    slices[2].ImagePositionPatient = slices[0].ImagePositionPatient
    dataset = enhanced_ct(slices)
    dataset.PerFrameFunctionalGroupsSequence[3].PixelMeasuresSequence = [
        item(PixelSpacing=[0.5, 0.5], SliceThickness="1")
    ]
    series, refusals = find_series(save(dataset, tmp_path / "a.dcm"))
    assert refusals == []
    assert [[file.frame for file in part.slices] for part in series] == [[1, 3, 2], [4]]


def test_real_frames_in_fragments_without_a_table_are_read(tmp_path, ct_data):
    # Cerebral blood flow, and said to be: a copy that says that it is a volume is read.
    (path,) = (ct_data / "transfer_syntaxes").glob("*fragmented_no_bot*")
    series, (refusal,) = find_series(path)
    assert series == []
    assert refusal.reason == "is a map computed from other slices, not a slice"
    dataset = pydicom.dcmread(path)
    dataset.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0].FrameType[3] = "NONE"
    dataset.save_as(tmp_path / "a.dcm")
    slices = frames_of(tmp_path / "a.dcm")
    assert [ct.frame for ct in slices] == [2, 1]  # the second lies below
    # The range that the index of these files notes of both, in stored units.
    assert min(ct.slice_hu.min() for ct in slices) == 1010 - 1024
    assert max(ct.slice_hu.max() for ct in slices) == 2223 - 1024
    assert pydicom.dcmread(derived(tmp_path, slices[0])).LossyImageCompression == "01"


def seconds_and_peak(path):
    multi_frame._kept.clear()
    began = time.process_time()
    (series,), _ = find_series(path)
    for file in series.slices:
        read_slice(file.path, file.frame)
    seconds = time.process_time() - began
    tracemalloc.start()
    for file in series.slices[:20]:
        read_slice(file.path, file.frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak


@pytest.mark.parametrize("fragments", [0, 2])
def test_time_grows_with_the_frames_and_memory_does_not(tmp_path, fragments):
    cost = {}
    for frames in (50, 200):
        slices = slices_of(frames, rows=64, columns=64)
        dataset = enhanced_ct(slices)
        if fragments:
            save(dataset, tmp_path / "a.dcm", uid.JPEGLSLossless)
            parts = list(generate_frames(dataset.PixelData, number_of_frames=frames))
            dataset["PixelData"].value = encapsulate(parts, fragments_per_frame=fragments, has_bot=False)
        path = tmp_path / f"{frames}.dcm"
        dataset.save_as(path)
        cost[frames] = seconds_and_peak(path)
    assert cost[200][0] < 8 * cost[50][0]
    assert cost[200][1] < min(1.5 * cost[50][1], path.stat().st_size)

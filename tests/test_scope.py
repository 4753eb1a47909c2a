"""What is denoised, what is denoised with a warning, and what is not: one rule, decided by headers and values."""

import json

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from kpn_tf.dicom import find_series, other_scale, volume_suffix
from kpn_tf.dicom.reading.scope import outside_scope
from tests.command import BOX, kpn
from tests.ct_series import write_ct_series
from tests.dicom_fixtures import save
from tests.enhanced_fixtures import enhanced_ct, slices_of

AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
TILTED_BY_30 = (1, 0, 0, 0, 0.866, -0.5)
BREAST = (0, 1, 0, 0.707, 0, -0.707)


@pytest.mark.parametrize(
    ("header", "orientation", "reasons"),
    [
        (
            {"ImageType": "ORIGINAL\\PRIMARY\\AXIAL", "PatientAge": "046Y", "ConvolutionKernel": "B40f"},
            AXIAL,
            (),
        ),
        ({}, (), ()),
        ({}, TILTED_BY_30, ()),
        ({}, CORONAL, ("not axial",)),
        (
            {"ImageType": "DERIVED\\PRIMARY\\MPR"},
            BREAST,
            ("derived from other images", "a reformat", "not axial"),
        ),
        ({"PatientAge": "017Y"}, AXIAL, ("of a child",)),
        ({"PatientAge": "018Y"}, AXIAL, ()),
        ({"PatientAge": "009M"}, AXIAL, ("of a child",)),
        ({"PatientAge": "000Y"}, AXIAL, ()),
        ({"PatientBirthDate": "20020116", "StudyDate": "20200115"}, AXIAL, ("of a child",)),
        ({"PatientBirthDate": "20020115", "StudyDate": "20200115"}, AXIAL, ()),
        ({"BodyPartExamined": "HEAD", "ConvolutionKernel": "H70h"}, AXIAL, ("a head", "a bone kernel")),
        ({"ConvolutionKernel": "BONEPLUS"}, AXIAL, ("a bone kernel",)),
        ({"ConvolutionKernel": "FC30"}, AXIAL, ("a bone kernel",)),
        ({"ConvolutionKernel": "FC13"}, AXIAL, ()),
        ({"ConvolutionKernel": "Br38f\\3"}, AXIAL, ("an iterative reconstruction",)),
        ({"ConvolutionKernel": "I30f"}, AXIAL, ("an iterative reconstruction",)),
    ],
)
def test_headers_tell_what_networks_are_not_made_for(header, orientation, reasons):
    dataset = Dataset()
    for keyword, value in header.items():
        setattr(dataset, keyword, value.split("\\") if "\\" in value else value)
    assert outside_scope(dataset, orientation) == reasons


def test_a_series_outside_the_scope_is_denoised_with_one_warning_and_status_0(tmp_path, capfd):
    write_ct_series(tmp_path / "in", kernel="H70h", BodyPartExamined="BRAIN", PatientAge="006Y")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--weights", BOX, "--json") == 0
    told = capfd.readouterr()
    outside = ["of a child", "a head", "a bone kernel"]
    assert json.loads(told.out)["series"][0]["outside"] == outside
    assert told.err.count("warning: ") == 1
    assert f"(H70h): outside what the network was made for ({', '.join(outside)})" in told.err


def body_hu(air_hu=-1000.0, tissue_hu=50.0, bone_hu=700.0, noise_hu=25.0, filled=0.6, seed=0):
    """A slice of 128x128: an ellipse of tissue with a disc of bone in air."""
    y, x = (np.mgrid[:128, :128] - 64) / 64
    slice_hu = np.full((128, 128), air_hu)
    slice_hu[(x / 0.9) ** 2 + (y / filled) ** 2 < 1] = tissue_hu
    slice_hu[x**2 + (y / filled) ** 2 < 0.05] = bone_hu
    return slice_hu + np.random.default_rng(seed).normal(0, noise_hu, slice_hu.shape)


def write_slice(path, slice_hu, intercept=0, **header):
    (written,) = write_ct_series(path.parent, name=path.stem, slices=1)
    dataset = pydicom.dcmread(written)
    dataset.Rows, dataset.Columns = slice_hu.shape
    dataset.BitsStored, dataset.HighBit, dataset.RescaleIntercept = 16, 15, intercept
    dataset.PixelRepresentation = 1
    dataset.PixelData = np.rint(slice_hu - intercept).astype("<i2").tobytes()
    dataset.update(header)
    dataset.save_as(written)
    return written


@pytest.mark.parametrize(
    ("slice_hu", "rescale_type", "reason"),
    [
        (np.clip(body_hu() + 1000, 0, None), "", "nothing lies below 0"),
        (body_hu() + 1000, "", "no air near -1000"),
        (body_hu(filled=0.12) + 1000, "HU", "no air near -1000"),
        (body_hu(0, 1800, 2100, 40), "US", "lie above 500"),
        (np.clip(body_hu() * 0.02, 0, None), "", "nothing lies below 0"),
        (body_hu(400, 420, 450, 5), "US", "nothing lies below 0"),
        (body_hu(-300, 350, 450, 5), "US", "has RescaleType US"),
    ],
    ids=["cone beam", "with noise", "a thin body", "tomosynthesis", "iodine", "grey", "grey, some negative"],
)
def test_values_that_cannot_be_hu_are_skipped_with_a_sentence(
    tmp_path, capfd, slice_hu, rescale_type, reason
):
    write_slice(tmp_path / "in" / "a", slice_hu, RescaleType=rescale_type)
    write_ct_series(tmp_path / "in", name="good")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--weights", BOX) == 0
    told = capfd.readouterr()
    assert told.err.count("skipped: series") == 1
    assert reason in told.err
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("rescale_type", ["", "HU", "HU_MOD", "US"])
@pytest.mark.parametrize(
    "slice_hu",
    [
        body_hu(),
        body_hu(tissue_hu=-850),
        body_hu(air_hu=50),
        body_hu(air_hu=40, tissue_hu=40, bone_hu=40, noise_hu=8),
        np.where(body_hu() > 2000, 8000.0, body_hu(bone_hu=8000)),
        np.zeros((128, 128)),
    ],
    ids=["a body", "a lung", "small field", "water", "metal", "empty"],
)
def test_values_that_are_hu_are_taken(tmp_path, slice_hu, rescale_type):
    (series,), _ = find_series(write_slice(tmp_path / "a", slice_hu, RescaleType=rescale_type))
    assert other_scale([series]) is None


@pytest.mark.parametrize("rescale_type", ["mg/ml", "Z", "%EDW", "ml/100ml/min", "Z_EFF", "MGML", "PCT"])
def test_maps_are_skipped_by_their_rescale_type_in_single_frames_and_in_enhanced_ones(tmp_path, rescale_type):
    write_ct_series(tmp_path, slices=1, RescaleType=rescale_type)
    dataset = enhanced_ct(slices_of(3))
    for group in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
        for values in group.get("PixelValueTransformationSequence", ()):
            values.RescaleType = rescale_type
    save(dataset, tmp_path / "enhanced.dcm")
    series, refusals = find_series(tmp_path)
    assert series == []
    assert [refusal.failure for refusal in refusals] == [False, False]
    assert {refusal.reason for refusal in refusals} == {
        "has a RescaleType other than HU, HU_MOD or US: it is a map of another quantity, not a slice"
    }


@pytest.mark.parametrize("technique", ["MIP", "MINIP", "VOLREN"])
def test_projections_are_skipped(tmp_path, technique):
    write_ct_series(tmp_path, slices=1, ImageType=["DERIVED", "SECONDARY", "AXIAL", technique])
    _, (refusal,) = find_series(tmp_path)
    assert (refusal.reason, refusal.failure) == ("is a projection of other slices, not a slice", False)


def test_projections_among_enhanced_frames_are_skipped(tmp_path):
    dataset = enhanced_ct(slices_of(3))
    dataset.VolumeBasedCalculationTechnique = "MAX_IP"
    for group in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
        for kind in group.get("CTImageFrameTypeSequence", ()):
            kind.VolumeBasedCalculationTechnique = "MAX_IP"
    series, (refusal,) = find_series(save(dataset, tmp_path / "a.dcm"))
    assert (series, refusal.reason) == ([], "is a projection of other slices, not a slice")


def test_no_real_series_is_taken_for_one_without_hu(ct_data):
    found, _ = find_series(ct_data)
    assert len(found) > 40
    # The volume files are scans of a phantom in HU + 1000, as their table says: no HU.
    dicom = [part for part in found if not volume_suffix(part.slices[0].path)]
    assert [part.uid for part in dicom if other_scale([part])] == []

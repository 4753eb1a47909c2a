"""NIfTI, NRRD and MetaImage: the slices of the same scan as DICOM, and back into the place they came from."""

import gzip
import math
import shutil
import struct
import sys

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from kpn_tf.dicom import DicomError, find_series, read_slice, read_volume
from kpn_tf.dicom.reading.volume_file import open_volume
from kpn_tf.dicom.reading.volume_format import derived_name
from tests.ct_series import write_ct_series
from tests.volume_files import AS_DCM2NIIX, AS_DICOM, SAGITTAL, write_volume_file

ENDS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    """A series as DICOM."""
    folder = tmp_path_factory.mktemp("dicom")
    write_ct_series(folder, slices=4)
    return folder


@pytest.fixture(scope="module")
def volume_hu(dicom):
    return read_volume(dicom).volume_hu


@pytest.mark.parametrize("stored", [AS_DICOM, AS_DCM2NIIX, SAGITTAL])
@pytest.mark.parametrize("end", ENDS)
def test_a_volume_file_has_the_slices_and_the_place_of_its_dicom(dicom, volume_hu, tmp_path, end, stored):
    path = write_volume_file(tmp_path / f"scan{end}", volume_hu, stored=stored)
    (series,), refusals = find_series(path)
    (original,), _ = find_series(dicom)
    assert refusals == []
    assert (series.rows, series.columns) == (original.rows, original.columns)
    np.testing.assert_allclose(series.pixel_spacing_mm, original.pixel_spacing_mm, rtol=1e-6)
    for file, as_dicom in zip(series.slices, original.slices, strict=True):
        assert file.position_mm == pytest.approx(as_dicom.position_mm, abs=1e-5)
        ct, as_dicom = read_slice(file.path, file.frame), read_slice(as_dicom.path)
        np.testing.assert_array_equal(ct.slice_hu, as_dicom.slice_hu)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
            np.testing.assert_allclose(ct.dataset[keyword].value, as_dicom.dataset[keyword].value, atol=1e-5)


@pytest.mark.parametrize("stored", [AS_DCM2NIIX, SAGITTAL])
@pytest.mark.parametrize("end", ENDS)
def test_what_is_written_lies_where_its_source_lies_voxel_by_voxel(volume_hu, tmp_path, end, stored):
    path = write_volume_file(tmp_path / f"scan{end}", volume_hu, stored=stored)
    written = tmp_path / derived_name(path, "denoised")
    open_volume(path).write(written, volume_hu + 7.5, "a note", "a longer note")
    before, after = sitk.ReadImage(str(path)), sitk.ReadImage(str(written))
    for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
        assert getattr(after, place)() == getattr(before, place)()
    # Rounded half to even: the source is whole.
    expected_hu = np.rint(sitk.GetArrayFromImage(before) + 7.5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), expected_hu)
    assert after.GetMetaData("ITK_FileNotes") == "a note"


def test_positions_are_those_of_the_affine_in_a_nifti_header(volume_hu, tmp_path):
    path = write_volume_file(tmp_path / "scan.nii", volume_hu, stored=AS_DCM2NIIX)
    # NIfTI-1: srow_x, srow_y and srow_z, four floats each from byte 280 on; its x and y run against DICOM's.
    affine = np.array(struct.unpack_from("<12f", path.read_bytes(), 280)).reshape(3, 4)
    rows = volume_hu.shape[1]
    for index in range(len(volume_hu)):
        place = affine @ [0, rows - 1, index, 1] * [-1, -1, 1]
        np.testing.assert_allclose(open_volume(path).corner_of(index), place, atol=1e-4)


def test_a_scan_that_is_rotated_keeps_its_axes_and_its_place(volume_hu, tmp_path):
    path = write_volume_file(tmp_path / "scan.nrrd", volume_hu)
    image = sitk.ReadImage(str(path))
    turn = math.radians(12)
    about_x = [1, 0, 0, 0, math.cos(turn), -math.sin(turn), 0, math.sin(turn), math.cos(turn)]
    image.SetDirection(about_x)
    sitk.WriteImage(image, str(path))
    (series,), _ = find_series(path)
    assert series.outside == ()
    assert [file.position_mm for file in series.slices] == pytest.approx(
        [3 * index + 20 * math.sin(turn) for index in range(4)]
    )
    open_volume(path).write(tmp_path / "again.nrrd", volume_hu, "", "")
    assert sitk.ReadImage(str(tmp_path / "again.nrrd")).GetDirection() == pytest.approx(about_x)


def test_slices_far_from_axial_are_outside_of_what_networks_are_made_for(volume_hu, tmp_path):
    path = write_volume_file(tmp_path / "scan.mha", volume_hu)
    image = sitk.ReadImage(str(path))
    turn = math.radians(40)
    image.SetDirection([1, 0, 0, 0, math.cos(turn), -math.sin(turn), 0, math.sin(turn), math.cos(turn)])
    sitk.WriteImage(image, str(path))
    assert find_series(path)[0][0].outside == ("not axial",)


def test_hu_between_whole_numbers_stay_and_what_integers_cannot_hold_is_clipped(volume_hu, tmp_path):
    path = write_volume_file(tmp_path / "scan.nii.gz", volume_hu)
    open_volume(path).write(tmp_path / "high.nii.gz", volume_hu + 40000, "", "")
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "high.nii.gz"))).min() == 32767
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat64) + 0.25
    sitk.WriteImage(image, str(tmp_path / "fine.nrrd"))
    read = read_volume(tmp_path / "fine.nrrd")
    np.testing.assert_array_equal(read.volume_hu, volume_hu + np.float32(0.25))
    open_volume(tmp_path / "fine.nrrd").write(tmp_path / "again.nrrd", read.volume_hu, "", "")
    again = sitk.ReadImage(str(tmp_path / "again.nrrd"))
    assert again.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(read_volume(tmp_path / "again.nrrd").volume_hu, read.volume_hu)


def test_a_slope_and_an_intercept_in_the_header_are_part_of_the_values(volume_hu, tmp_path):
    path = write_volume_file(tmp_path / "scan.nii", volume_hu)
    header = bytearray(path.read_bytes())
    struct.pack_into("<2f", header, 112, 0.5, -24.0)  # scl_slope, scl_inter
    path.write_bytes(header)
    np.testing.assert_array_equal(read_volume(path).volume_hu, 0.5 * volume_hu - 24)


def test_the_fill_outside_of_the_field_of_view_is_padding(volume_hu, tmp_path):
    volume_hu = volume_hu.copy()
    volume_hu[:, :5] = -3024
    read = read_volume(write_volume_file(tmp_path / "scan.mha", volume_hu, stored=AS_DCM2NIIX))
    assert read.padding[:, :5].all()
    assert not read.padding[:, 5:].any()


def test_one_slice_after_the_other_costs_one_reading(volume_hu, tmp_path, monkeypatch):
    path = write_volume_file(tmp_path / "scan.nrrd", volume_hu)
    readings = []
    execute = sitk.ImageFileReader.Execute
    monkeypatch.setattr(
        sitk.ImageFileReader, "Execute", lambda reader: readings.append(reader) or execute(reader)
    )
    read_volume(path)
    assert len(readings) == 1
    # A file that changes is read again.
    write_volume_file(path, volume_hu[:2] + 1)
    np.testing.assert_array_equal(read_volume(path).volume_hu, volume_hu[:2] + 1)
    with pytest.raises(DicomError, match=r"has 2 slices\. Received: a request for number 3"):
        read_slice(path, 3)
    with pytest.raises(DicomError, match=r"has 2 slices\. Received: no number of one"):
        read_slice(path)


def test_a_second_copy_is_named_and_left_out(volume_hu, tmp_path):
    first = write_volume_file(tmp_path / "a.nrrd", volume_hu)
    shutil.copy(first, tmp_path / "b.nrrd")
    series, (refusal,) = find_series(tmp_path)
    assert len(series) == 1
    assert (refusal.path.name, refusal.reason, refusal.failure) == (
        "b.nrrd",
        f"is a second copy of {first}",
        False,
    )


def test_volume_files_and_dicom_lie_in_one_folder(dicom, volume_hu, tmp_path):
    shutil.copytree(dicom, tmp_path / "study")
    write_volume_file(tmp_path / "study/scan.nii.gz", volume_hu)
    series, refusals = find_series(tmp_path / "study")
    assert sorted(len(one.slices) for one in series) == [4, 4]
    assert refusals == []


@pytest.mark.parametrize("end", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("kept", [0, 0.4, 0.95])
def test_a_file_that_is_cut_off_is_refused_in_one_sentence(volume_hu, tmp_path, end, kept, capfd):
    path = write_volume_file(tmp_path / f"scan{end}", volume_hu)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    reason = f"cannot be read as {end}: it is damaged, cut off, or something else"
    with pytest.raises(DicomError) as refused:
        read_slice(path, 1)
    assert str(refused.value) == f"{path}: {reason}"
    ((refusal,),) = (find_series(path)[1],)
    assert (refusal.reason, refusal.failure) == (reason, True)
    assert capfd.readouterr() == ("", "")


def test_a_checksum_that_does_not_fit_is_noticed(volume_hu, tmp_path):
    path = write_volume_file(tmp_path / "scan.nii.gz", volume_hu)
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF  # of the checksum in the last eight bytes of gzip
    path.write_bytes(content)
    with pytest.raises(DicomError, match=r"cannot be read as \.nii\.gz: it is damaged"):
        read_slice(path, 1)


def test_a_header_without_its_pixels_is_refused(volume_hu, tmp_path):
    path = write_volume_file(tmp_path / "scan.mhd", volume_hu)
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(DicomError, match=r"scan\.mhd: cannot be read as \.mhd"):
        read_slice(path, 1)


def test_a_film_is_no_volume(volume_hu, tmp_path):
    film = sitk.JoinSeries([sitk.GetImageFromArray(volume_hu)] * 2)
    sitk.WriteImage(film, str(tmp_path / "film.nii.gz"))
    series, (refusal,) = find_series(tmp_path)
    assert series == []
    assert refusal.reason == "has 4 axes (44 x 52 x 4 x 2); expected three: one volume at one time"
    assert not refusal.failure


def test_colours_are_no_hu(volume_hu, tmp_path):
    colours = np.stack([volume_hu.astype("uint8")] * 3, axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "colours.nrrd"))
    with pytest.raises(DicomError, match="holds more than one number a voxel, so no HU"):
        read_slice(tmp_path / "colours.nrrd", 1)


@pytest.mark.parametrize("end", [".nii.gz", ".nrrd", ".mha"])
def test_nan_is_refused_with_what_to_do(volume_hu, tmp_path, end):
    volume_hu = volume_hu.copy()
    volume_hu[1, 2, :3] = np.nan, np.inf, np.nan
    sitk.WriteImage(sitk.GetImageFromArray(volume_hu), str(tmp_path / f"scan{end}"))
    with pytest.raises(DicomError, match=r"holds 3 values that are NaN or infinite; write air \(-1024 HU\)"):
        read_slice(tmp_path / f"scan{end}", 1)


def test_a_grid_with_shear_is_refused(volume_hu, tmp_path):
    nrrd = write_volume_file(tmp_path / "scan.nrrd", volume_hu)
    content = nrrd.read_bytes()
    (line,) = [line for line in content.splitlines() if line.startswith(b"space directions")]
    nrrd.write_bytes(content.replace(line, b"space directions: (0.8,0,0) (0.3,0.8,0) (0,0,3)"))
    nifti = write_volume_file(tmp_path / "scan.nii", volume_hu)
    header = bytearray(nifti.read_bytes())
    struct.pack_into("<2h", header, 252, 0, 1)  # qform_code, sform_code
    struct.pack_into("<f", header, 284, 0.4)  # srow_x, its second number
    nifti.write_bytes(header)
    for path in (nrrd, nifti):
        with pytest.raises(DicomError, match="axes that are not perpendicular; resample it onto a grid"):
            read_slice(path, 1)


def test_values_far_beyond_hu_are_refused(volume_hu, tmp_path):
    volume_hu = volume_hu.copy()
    volume_hu[2, 3, 4] = -2e9
    sitk.WriteImage(sitk.GetImageFromArray(volume_hu), str(tmp_path / "scan.mha"))
    with pytest.raises(DicomError, match=r"holds values beyond 1e\+09, which are no HU"):
        read_slice(tmp_path / "scan.mha", 1)


@pytest.mark.parametrize("sizes", ["1000 1000 1001", "3 4097 4097"])
def test_a_header_that_asks_for_more_than_any_ct_is_refused_before_it_is_believed(volume_hu, tmp_path, sizes):
    path = write_volume_file(tmp_path / "scan.nrrd", volume_hu)
    path.write_bytes(path.read_bytes().replace(b"sizes: 44 52 4", f"sizes: {sizes}".encode()))
    with pytest.raises(DicomError, match=f"claims {sizes.replace(' ', ' x ')} voxels, more than any CT"):
        read_slice(path, 1)


def test_without_the_extra_a_volume_file_is_named_with_what_it_needs(volume_hu, tmp_path, monkeypatch):
    path = write_volume_file(tmp_path / "scan.nii.gz", volume_hu)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    (refusal,) = find_series(path)[1]
    assert refusal.reason == (
        "is a volume in one file, which needs the volumes extra: in a checkout, pip install '.[volumes]'"
    )


def test_a_longer_note_than_nifti_has_room_for_is_cut(volume_hu, tmp_path):
    path = write_volume_file(tmp_path / "scan.nii.gz", volume_hu)
    open_volume(path).write(tmp_path / "out.nii.gz", volume_hu, "n" * 100, "in full")
    # NIfTI-1: descrip, 80 bytes from byte 148 on, the last of them zero.
    assert gzip.decompress((tmp_path / "out.nii.gz").read_bytes())[148:228] == b"n" * 79 + b"\0"


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_what_another_converter_makes_of_dicom_has_its_slices_and_places(tmp_path, tilt):
    down = [0.0, math.cos(math.radians(tilt)), math.sin(math.radians(tilt))]
    along = np.cross([1.0, 0.0, 0.0], down)
    for index, path in enumerate(write_ct_series(tmp_path / "in", slices=4)):
        dataset = pydicom.dcmread(path)
        dataset.ImageOrientationPatient = [1, 0, 0, *(f"{value:.9g}" for value in down)]
        dataset.ImagePositionPatient = [f"{value:.9g}" for value in (-20, 30, 7) + 3 * index * along]
        dataset.save_as(path)
    reader = sitk.ImageSeriesReader()  # GDCM: it finds order and places by itself
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "in")))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "scan.nii.gz"))
    (original,), (series,) = (find_series(path)[0] for path in (tmp_path / "in", tmp_path / "scan.nii.gz"))
    for as_dicom, file in zip(original.slices, series.slices, strict=True):
        as_dicom, ct = read_slice(as_dicom.path), read_slice(file.path, file.frame)
        np.testing.assert_array_equal(ct.slice_hu, as_dicom.slice_hu)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
            np.testing.assert_allclose(ct.dataset[keyword].value, as_dicom.dataset[keyword].value, atol=1e-4)

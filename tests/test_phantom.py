import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from kpn_tf.phantom import LESIONS, TISSUE_HU, Tissue, torso, write_series
from kpn_tf.phantom.canvas import Canvas
from tests.reference.slow_phantom import in_ellipsoid, in_tube


@pytest.fixture(scope="module")
def body():
    return torso(rows=181, columns=193, slices=9, pixel_spacing_mm=2.0, slice_spacing_mm=8.0)


def points(canvas_rows, canvas_columns, spacing_mm, z_mm):
    for row in range(canvas_rows):
        for column in range(canvas_columns):
            x = (column - (canvas_columns - 1) / 2) * spacing_mm
            y = (row - (canvas_rows - 1) / 2) * spacing_mm
            yield row, column, (x, y, z_mm)


def test_an_ellipsoid_covers_the_points_that_lie_in_it():
    canvas = Canvas(31, 37, 0.9, z_mm=2.0)
    solid = ((3.3, -2.1, 4.0), (9.0, 4.7, 6.0))
    canvas.ellipsoid(7, *solid, degrees=25.0)
    for row, column, point in points(31, 37, 0.9, 2.0):
        assert (canvas.labels[row, column] == 7) == in_ellipsoid(point, *solid, 25.0)


def test_a_tube_covers_the_points_that_lie_in_it_and_nothing_it_may_not():
    canvas = Canvas(31, 37, 0.9, z_mm=1.0)
    canvas.labels[:, 20:] = 5
    start, end = (-11.0, -6.0, -3.0), (10.0, 7.5, 4.0)
    canvas.tubes(9, np.array([[*start, *end, 4.1, 1.3]]), only=(0,))
    for row, column, point in points(31, 37, 0.9, 1.0):
        covered = column < 20 and in_tube(point, start, end, 4.1, 1.3)
        assert (canvas.labels[row, column] == 9) == covered


def test_the_same_call_draws_the_same_torso():
    first, second = (torso(rows=60, columns=70, slices=2, pixel_spacing_mm=5.0) for _ in range(2))
    np.testing.assert_array_equal(first.volume_hu, second.volume_hu)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_every_tissue_is_there_and_has_its_hu_away_from_borders(body):
    k = np.s_[:, 1:-1, 1:-1]
    same = np.ones(body.labels[k].shape, bool)
    for shift in [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
        same &= np.roll(body.labels, shift, axis=(1, 2))[k] == body.labels[k]
    for tissue in Tissue:
        assert (body.labels == tissue).any(), tissue.name
    for tissue in (Tissue.AIR, Tissue.FAT, Tissue.LUNG, Tissue.LIVER, Tissue.SPLEEN, Tissue.AORTA):
        inside_hu = body.volume_hu[k][same & (body.labels[k] == tissue)]
        assert len(inside_hu) > 50
        # Finer structures than a pixel (lung and liver vessels) may touch a few voxels.
        assert np.median(inside_hu) == TISSUE_HU[tissue]


def test_partial_volume_and_blur_stay_between_the_tissues_that_are_there(body):
    assert body.volume_hu.dtype == np.float32
    assert body.volume_hu.min() == TISSUE_HU[Tissue.AIR]
    assert body.volume_hu.max() <= TISSUE_HU[Tissue.CORTICAL_BONE]
    assert len(np.unique(body.volume_hu)) > 100


def test_lungs_shrink_and_the_liver_grows_towards_the_feet(body):
    lung, liver = ((body.labels == t).sum(axis=(1, 2)) for t in (Tissue.LUNG, Tissue.LIVER))
    assert (np.diff(lung) > 0).all()
    assert (np.diff(liver) < 0).all()


def test_lesions_have_the_size_and_the_contrast_the_list_says():
    fine = torso(rows=75, columns=141, slices=53, pixel_spacing_mm=1.6, slice_spacing_mm=1.4)
    contrasts_hu = fine.lesion_contrasts_hu(fine.volume_hu)
    for lesion, contrast_hu in zip(fine.lesions, contrasts_hu, strict=True):
        volume_mm3 = (fine.labels == lesion.label).sum() * 1.6**2 * 1.4
        assert volume_mm3 == pytest.approx(4 / 3 * np.pi * lesion.radius_mm**3, rel=0.06)
        assert contrast_hu == pytest.approx(lesion.contrast_hu, rel=0.2)
        assert abs(contrast_hu) <= abs(lesion.contrast_hu) + 1e-3


def test_lesions_are_low_in_contrast_of_both_signs_and_of_several_sizes():
    assert {np.sign(lesion.contrast_hu) for lesion in LESIONS} == {-1, 1}
    assert max(abs(lesion.contrast_hu) for lesion in LESIONS) <= 20
    assert len({lesion.radius_mm for lesion in LESIONS}) >= 4


def test_a_lesion_that_no_slice_shows_has_no_contrast(body):
    one = torso(rows=181, columns=193, slices=1, pixel_spacing_mm=2.0)
    contrasts_hu = one.lesion_contrasts_hu(one.volume_hu)
    shown = [abs(lesion.centre_mm[2]) < lesion.radius_mm for lesion in one.lesions]
    np.testing.assert_array_equal(np.isfinite(contrasts_hu), shown)
    with pytest.raises(ValueError, match=r"Expected a volume of \(9, 181, 193\). Received: \(1, 181, 193\)"):
        body.lesion_contrasts_hu(one.volume_hu)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"Expected positive sizes and spacings. Received: 0x60x70 voxels"):
        torso(rows=60, columns=70, slices=0)


GEOMETRY = {"pixel_spacing_mm": (0.9, 1 / 3), "slice_spacing_mm": 2.5}


def wedge():
    return np.arange(3 * 11 * 7, dtype=np.float32).reshape(3, 11, 7) * 20 - 1100.4


def test_a_written_series_reads_back_as_the_hu_that_went_in(tmp_path):
    paths = write_series(wedge(), tmp_path / "a" / "b", description="wedge", **GEOMETRY)
    read = [pydicom.dcmread(path) for path in paths]
    volume_hu = [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in read]
    np.testing.assert_array_equal(volume_hu, np.rint(wedge()))
    assert [float(d.ImagePositionPatient[2]) for d in read] == [-2.5, 0.0, 2.5]
    assert [float(n) for n in read[0].ImagePositionPatient[:2]] == pytest.approx([-1.0, -4.5])
    assert [float(n) for n in read[0].PixelSpacing] == pytest.approx([0.9, 1 / 3])
    assert read[0].PatientName == "PHANTOM^TORSO"
    assert {d.SeriesInstanceUID for d in read} == {read[0].SeriesInstanceUID}
    assert len({d.SOPInstanceUID for d in read}) == 3


def test_equal_series_have_equal_uids_and_other_pixels_have_others(tmp_path):
    first, second, third = (
        pydicom.dcmread(write_series(volume_hu, tmp_path / name, description="wedge", **GEOMETRY)[1])
        for name, volume_hu in (("a", wedge()), ("b", wedge()), ("c", wedge() + 1))
    )
    assert first == second
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert first.SeriesInstanceUID != third.SeriesInstanceUID
    assert first.StudyInstanceUID == third.StudyInstanceUID


def test_nothing_is_overwritten(tmp_path):
    write_series(wedge(), tmp_path, description="wedge", **GEOMETRY)
    with pytest.raises(FileExistsError):
        write_series(wedge(), tmp_path, description="wedge", **GEOMETRY)


def test_what_does_not_fit_into_a_series_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected -33792 to 31743 HU. Received: .* to 40000.0; clip"):
        write_series(np.full((1, 11, 7), 40000.0), tmp_path, description="too bright", **GEOMETRY)
    with pytest.raises(ValueError, match="Expected -33792"):
        write_series(np.full((1, 11, 7), np.nan), tmp_path, description="no number", **GEOMETRY)
    with pytest.raises(ValueError, match=r"\(Z, H, W\). Received shape: \(11, 7\)"):
        write_series(np.zeros((11, 7)), tmp_path, description="flat", **GEOMETRY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
def test_dciodvfy_finds_no_fault(tmp_path):
    for path in write_series(wedge(), tmp_path, description="wedge", **GEOMETRY):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert (done.stdout + done.stderr).strip() == "CTImage"

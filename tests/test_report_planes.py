"""Coronal and sagittal planes of a report lie in the patient as radiologists look at them, whichever way slices run."""

from types import SimpleNamespace

import numpy as np
import pydicom
import pytest

from kpn_tf.report.planes import Planes, axial_sides

ROWS, COLUMNS, SLICES = 7, 11, 5
SPACING_MM, STEP_MM = (2.0, 3.0), 4.0
CORNER_MM = np.array([-20.0, 30.0, 100.0])


def place_hu(place_mm):
    """Another value at every place in the patient."""
    return place_mm @ np.array([1.0, 100.0, 10000.0])


def headers(cosines, shift_mm=(0, 0, 0)):
    """Headers of slices along their normal, each shifted against the one before."""
    normal = np.cross(cosines[:3], cosines[3:])
    for index in range(SLICES):
        header = pydicom.Dataset()
        header.ImageOrientationPatient = list(cosines)
        header.ImagePositionPatient = list(CORNER_MM + index * (STEP_MM * normal + np.array(shift_mm)))
        yield header


def planes_of(cosines, count=20, **more):
    """All planes of a series whose pixels say where they lie."""
    series = SimpleNamespace(rows=ROWS, columns=COLUMNS, pixel_spacing_mm=SPACING_MM, slices=[None] * SLICES)
    planes = Planes(SimpleNamespace(series=series), count, STEP_MM)
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    for index, header in enumerate(headers(cosines, **more)):
        right, down = (np.array(cosines[i : i + 3], float) for i in (0, 3))
        place_mm = np.array(header.ImagePositionPatient, float)
        place_mm = (
            place_mm + rows[..., None] * SPACING_MM[0] * down + columns[..., None] * SPACING_MM[1] * right
        )
        planes.add(index, header, {"before": place_hu(place_mm)}, {"before": 1.0})
    return planes


@pytest.mark.parametrize(
    "cosines",
    [
        (1, 0, 0, 0, 1, 0),
        (-1, 0, 0, 0, -1, 0),  # prone
        (-1, 0, 0, 0, 1, 0),  # feet first: along the normal it goes down
        (0, 1, 0, -1, 0, 0),  # on the side
    ],
)
def test_right_or_front_is_on_the_left_and_the_head_above_however_slices_are_stored(cosines):
    seen = []
    for plane, name, images_hu, spacing_mm, sides in planes_of(cosines).images():
        along, across, expected_sides = {"coronal": (0, 1, "RLHF"), "sagittal": (1, 0, "APHF")}[plane]
        image_hu = images_hu["before"]
        places_mm = np.zeros((*image_hu.shape, 3))
        places_mm[..., across] = float(name.split()[2])
        places_mm[..., along] = least_mm(cosines)[along] + spacing_mm[1] * np.arange(image_hu.shape[1])
        places_mm[..., 2] = least_mm(cosines)[2] + STEP_MM * np.arange(SLICES)[::-1, None]
        np.testing.assert_allclose(image_hu, place_hu(places_mm))
        assert spacing_mm[0] == STEP_MM
        assert sides == expected_sides
        seen.append(plane)
    assert sorted(map(seen.count, ("coronal", "sagittal"))) == [ROWS, COLUMNS]


def least_mm(cosines):
    """The smallest coordinates of any pixel."""
    right, down = np.array(cosines[:3]), np.array(cosines[3:])
    reach = ((COLUMNS - 1) * SPACING_MM[1] * right, (ROWS - 1) * SPACING_MM[0] * down)
    reach += ((SLICES - 1) * STEP_MM * np.cross(right, down),)
    return CORNER_MM + sum(np.minimum(way, 0) for way in reach)


def test_planes_are_as_many_as_wanted_and_evenly_spread():
    names = [name for _, name, *_ in planes_of((1, 0, 0, 0, 1, 0), count=2).images()]
    # Rows 1 and 5 of seven, 2 mm apart; columns 2 and 8 of eleven, 3 mm apart.
    assert names == ["coronal at 32.0 mm", "coronal at 40.0 mm", "sagittal at -14.0 mm", "sagittal at 4.0 mm"]


@pytest.mark.parametrize(
    ("cosines", "shift_mm", "reason"),
    [
        ((1, 0, 0, 0, 0, -1), (0, 0, 0), "its slices are not axial, or do not say how they lie"),
        (
            (1, 0, 0, 0, 1, 0),
            (0, 1.5, 0),
            "its slices are shifted against each other, as with a tilted gantry",
        ),
    ],
)
def test_slices_that_make_no_box_have_no_planes(cosines, shift_mm, reason):
    assert planes_of(cosines, shift_mm=shift_mm).reason == reason


def test_a_slice_that_is_missing_leaves_a_gap():
    series = SimpleNamespace(rows=2, columns=3, pixel_spacing_mm=SPACING_MM, slices=[None] * 3)
    planes = Planes(SimpleNamespace(series=series), 1, STEP_MM)
    for index, header in enumerate(headers((1, 0, 0, 0, 1, 0))):
        if index in (0, 2):
            planes.add(index, header, {"before": np.full((2, 3), 40.0)}, {"before": 1.0})
    _, _, images_hu, _, _ = next(planes.images())
    np.testing.assert_array_equal(np.isnan(images_hu["before"]).all(axis=1), [False, True, False])


def test_the_sides_of_an_axial_slice_are_those_of_its_header():
    supine, prone = (next(headers(cosines)) for cosines in ((1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0)))
    assert axial_sides(supine) == "RLAP"
    assert axial_sides(prone) == "LRPA"
    assert axial_sides(pydicom.Dataset()) == ""

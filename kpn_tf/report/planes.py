"""Coronal and sagittal planes of a series, filled while its slices pass by."""

import numpy as np

from kpn_tf.dicom.attributes import numbers
from kpn_tf.evaluation.stream import chosen_slices

# Plane -> the patient's axis that it is perpendicular to: 0 to the left, 1 to the back, 2 to the head
# (PS3.3 C.7.6.2.1.1).
_ACROSS = {"coronal": 1, "sagittal": 0}
_LETTERS = ("RL", "AP", "FH")

# Slices further from the axis of the body are not axial: the cosine of 30 degrees, as far as a gantry tilts.
_LEAST_COSINE = 0.86
# How far a slice may be shifted in its plane against the first.
_SHIFT_PIXELS = 0.5


class Planes:
    """Some coronal and some sagittal planes of a series, evenly spread.

    `reason` says why there are none, as far as the slices added tell; `None` if there is nothing against them.

    Args:
        shown: `kpn_tf.report.selection.ShownSeries`.
        count: How many of each.
        spacing_mm: Distance from one slice to the next.
    """

    def __init__(self, shown, count, spacing_mm):
        self._series, self._spacing_mm = shown.series, spacing_mm
        size = (shown.series.rows, shown.series.columns)
        # By the axis of a slice that they cut: 0, a row each, or 1, a column each.
        self._places = [[i - 1 for i, _ in chosen_slices(range(n), -(-n // count))] for n in size]
        self._lengths = size[::-1]
        self._filled = [{}, {}]
        self._frame = None
        self.reason, self.steps_hu = None, {}

    def add(self, index, dataset, images_hu, steps_hu):
        """Takes what the planes hold of one slice.

        Args:
            index: Of the slice in its series.
            dataset: Its header.
            images_hu: Dict of `(H, W)` in HU.
            steps_hu: HU between neighbouring stored values of each.
        """
        frame = _Frame.of(dataset)
        self._frame = self._frame or frame
        if frame is None:
            self.reason = "its slices are not axial, or do not say how they lie"
        elif frame.shift_mm(self._frame) > _SHIFT_PIXELS * min(self._series.pixel_spacing_mm):
            self.reason = "its slices are shifted against each other, as with a tilted gantry"
        self.steps_hu |= steps_hu
        for kind, slice_hu in images_hu.items():
            for axis, (filled, places, length) in enumerate(
                zip(self._filled, self._places, self._lengths, strict=True)
            ):
                if kind not in filled:
                    shape = (len(places), len(self._series.slices), length)
                    filled[kind] = np.full(shape, np.nan, np.float32)
                filled[kind][:, index] = np.take(slice_hu, places, axis).T if axis else slice_hu[places]

    def images(self):
        """The planes, the head above and the patient's right, or front, on the left.

        Yields:
            `(plane, name, images_hu, spacing_mm, sides)` as `kpn_tf.report.content.ReportSlice` has them.
        """
        if self._frame is None:
            return
        for plane, across in _ACROSS.items():
            cut = self._frame.axes.index(across)
            along = self._frame.directions[1 - cut]
            axis = int(np.argmax(np.abs(along)))
            turned = (
                slice(None, None, -1 if self._frame.normal[2] > 0 else 1),
                slice(None, None, 1 if along[axis] > 0 else -1),
            )
            spacing_mm = (self._spacing_mm, self._series.pixel_spacing_mm[1 - cut])
            for place, at in enumerate(self._places[cut]):
                corner_mm = (
                    self._frame.corner_mm
                    + at * self._series.pixel_spacing_mm[cut] * self._frame.directions[cut]
                )
                images_hu = {kind: filled[place][turned] for kind, filled in self._filled[cut].items()}
                yield (
                    plane,
                    f"{plane} at {corner_mm[across]:.1f} mm",
                    images_hu,
                    spacing_mm,
                    _LETTERS[axis] + "HF",
                )


class _Frame:
    """How an axial slice lies in the patient.

    Args:
        corner_mm: Place of its first pixel.
        directions: From row to row, and from column to column.
    """

    def __init__(self, corner_mm, directions):
        self.corner_mm, self.directions = corner_mm, directions
        self.normal = np.cross(directions[1], directions[0])
        self.axes = [int(np.argmax(np.abs(direction))) for direction in directions]

    @classmethod
    def of(cls, dataset):
        """That of a slice; `None` if it is not axial or does not say."""
        corner_mm = np.array(numbers(dataset, "ImagePositionPatient"))
        cosines = np.array(numbers(dataset, "ImageOrientationPatient"))
        if corner_mm.shape != (3,) or cosines.shape != (6,):
            return None
        frame = cls(corner_mm, (cosines[3:], cosines[:3]))
        return frame if sorted(frame.axes) == [0, 1] and abs(frame.normal[2]) >= _LEAST_COSINE else None

    def shift_mm(self, other):
        """How far the corner lies from another's, seen along the normal."""
        apart_mm = self.corner_mm - other.corner_mm
        return float(np.linalg.norm([apart_mm @ direction for direction in self.directions]))


def axial_sides(dataset):
    """Which side of the patient is on the left, right, at the top and bottom of a slice; empty if it does not say."""
    frame = _Frame.of(dataset)
    if frame is None:
        return ""
    sides = ""
    for axis, direction in reversed(list(zip(frame.axes, frame.directions, strict=True))):
        sides += _LETTERS[axis][:: 1 if direction[axis] > 0 else -1]
    return sides

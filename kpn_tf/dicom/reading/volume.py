"""A CT series on disk as one array, for scripts that want the whole of it."""

import os
from typing import NamedTuple

import numpy as np

from kpn_tf.dicom.reading.ct_slice import read_slice
from kpn_tf.dicom.reading.finding import find_series
from kpn_tf.dicom.refusal import DicomError


class Volume(NamedTuple):
    """A CT series in memory.

    Args:
        volume_hu: `(Z, H, W)` float32 in HU, sorted by position.
        padding: `(Z, H, W)` bool, true outside the field of view.
        pixel_spacing_mm: `(rows, columns)` distance between pixels.
        slice_spacing_mm: Distance from one slice to the next; of a single slice its thickness, 1 where none is stated.
    """

    volume_hu: np.ndarray
    padding: np.ndarray
    pixel_spacing_mm: tuple[float, float]
    slice_spacing_mm: float


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Reads the one CT series under a path.

    Args:
        path: CT file, or folder that is searched recursively.

    Returns:
        A `Volume`.

    Raises:
        DicomError: If there is no CT series or more than one (geometries and phases count), a slice cannot be read, or
            slices are not evenly spaced: one is missing, or several share a position.

    Example:

    ```python
    ct = read_volume("CT/patient")
    quiet_hu = denoise.volume(ct.volume_hu, slice_spacing_mm=ct.slice_spacing_mm, padding=ct.padding)
    ```
    """
    found, _ = find_series(path)
    if len(found) != 1:
        raise DicomError(
            path, f"Expected one CT series of one geometry. Received: {len(found)}; name the folder of one"
        )
    [series] = found
    spacing_mm = even_spacing_mm(series)
    if spacing_mm is None:
        steps_mm = np.diff([file.position_mm for file in series.slices])
        raise DicomError(
            path,
            f"Expected evenly spaced slices with positions. Received: steps of {steps_mm.min():.4g} to "
            f"{steps_mm.max():.4g} mm by {series.ruler}; a slice is missing, or phases share their positions",
        )
    slices = [read_slice(file.path, file.frame) for file in series.slices]
    return Volume(
        np.stack([ct.slice_hu for ct in slices]),
        np.stack([ct.padding for ct in slices]),
        series.pixel_spacing_mm,
        spacing_mm,
    )


# Positions are rounded in headers, to a hundredth of a millimetre in some.
_SAME_STEP = 0.05


def even_spacing_mm(series):
    """Distance from one slice of a `Series` to the next; of a single slice its thickness, 1 where none is stated.

    Returns:
        A float; `None` if slices are not evenly spaced: one is missing, several share a position, or none has one.
    """
    if len(series.slices) == 1:
        return float(series.thickness_mm or 1.0)
    steps_mm = np.diff([file.position_mm for file in series.slices])
    spacing_mm = float(np.median(steps_mm))
    even = np.all(steps_mm > 0) and np.all(np.abs(steps_mm - spacing_mm) <= _SAME_STEP * spacing_mm)
    return spacing_mm if even and series.ruler != "instance_number" else None

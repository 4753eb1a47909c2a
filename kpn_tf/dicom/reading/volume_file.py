"""A CT volume in one file, NIfTI, NRRD or MetaImage: its slices as DICOM would order them, and the way back.

SimpleITK reads and writes all three. Positions are those of DICOM (patient coordinates, LPS, in mm) whatever the format
says them in.
"""

import hashlib
import itertools
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kpn_tf.console import silenced
from kpn_tf.dicom.reading.volume_format import read_image, simple_itk
from kpn_tf.dicom.refusal import DicomError

# What the field of NIfTI that says how a file was made has room for, without the zero at its end.
_LONGEST_NOTE = 79


@dataclass(frozen=True, eq=False)
class VolumeFile:
    """A volume in memory, its axes in the order and direction of DICOM's axial slices.

    Args:
        path: The file.
        stored: `(Z, H, W)` in HU, as stored: slices from feet to head, rows from front to back, columns from the
            patient's right to the left, as nearly as the axes of the file allow.
        spacing_mm: Between slices, rows and columns.
        axes: `(3, 3)`, unit vector along each of these axes, in patient coordinates.
        corner_mm: `(3,)`, middle of the first pixel of the first slice, in patient coordinates.
        sha256: Of its voxels and their places, hexadecimal.
        note: How it was made, in its own words; may be empty.
        image: What SimpleITK read.
        order: Axes of the stored array in the order Z, H, W, and the step, 1 or -1, along each.
    """

    path: Path
    stored: np.ndarray
    spacing_mm: tuple[float, float, float]
    axes: np.ndarray
    corner_mm: np.ndarray
    sha256: str
    note: str
    image: Any
    order: tuple[tuple[int, ...], tuple[int, ...]]

    def corner_of(self, index):
        """`(3,)`, middle of the first pixel of a slice, counted from 0, in patient coordinates."""
        return self.corner_mm + index * self.spacing_mm[0] * self.axes[0]

    @property
    def orientation(self):
        """Direction cosines along a row and down a column, as ImageOrientationPatient has them."""
        return (*self.axes[2].tolist(), *self.axes[1].tolist())

    def write(self, path, volume_hu, note, more):
        """Writes another volume of the same geometry, in the same format.

        Args:
            path: A `pathlib.Path` whose end is that of `derived_name`; an existing file is replaced.
            volume_hu: `(Z, H, W)` in HU, finite. Whole numbers where the source has them (rounded half to even, then
                clipped to its type), else float32.
            note: How it was made; NIfTI keeps 79 characters of it.
            more: The same in full, for formats with room for it.

        Raises:
            OSError: If it cannot be written.
        """
        sitk = simple_itk()
        axes, steps = self.order
        dtype = self.stored.dtype
        if dtype.kind == "f":
            dtype = np.dtype(np.float32)
        else:
            limits = np.iinfo(dtype)
            volume_hu = np.clip(np.rint(volume_hu), limits.min, limits.max)
        there = volume_hu[tuple(slice(None, None, step) for step in steps)].transpose(np.argsort(axes))
        image = sitk.GetImageFromArray(np.ascontiguousarray(there, dtype))
        image.CopyInformation(self.image)
        for key in self.image.GetMetaDataKeys():
            image.SetMetaData(key, self.image.GetMetaData(key))
        image.SetMetaData("ITK_FileNotes", note[:_LONGEST_NOTE])
        image.SetMetaData("kpn_tf", more)
        try:
            with silenced():
                sitk.WriteImage(image, str(path))
        except RuntimeError as error:
            raise OSError(f"cannot write {path.name}") from error


def open_volume(path):
    """Reads a volume file.

    Args:
        path: Its path.

    Returns:
        A `VolumeFile`; the last two are kept, so that one slice after the other costs one reading.

    Raises:
        DicomError: If it cannot be read, is cut off, is no grid of three perpendicular axes with one number a voxel, or
            holds NaN or infinity.
    """
    path = Path(path)
    try:
        state = os.stat(path)
    except OSError as error:
        raise DicomError(path, f"cannot be opened ({type(error).__name__})") from error
    return _opened(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _opened(path, changed, size):
    image = read_image(path)
    stored = simple_itk().GetArrayViewFromImage(image)
    note = image.GetMetaData("ITK_FileNotes") if "ITK_FileNotes" in image.GetMetaDataKeys() else ""
    place = repr((image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()))
    sha256 = hashlib.sha256(stored)
    sha256.update(place.encode())
    return _placed(path, stored, image, sha256.hexdigest(), note)


def _placed(path, stored, image, sha256, note):
    # Of the stored array (k, j, i), which runs against SimpleITK's order of axes.
    vectors = np.reshape(image.GetDirection(), (3, 3)).T[::-1]
    spacing_mm = image.GetSpacing()[::-1]
    # Z, H and W lie along the third, second and first patient coordinate.
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(vectors[axis][2 - place]) for place, axis in enumerate(axes)),
    )
    steps = tuple(1 if vectors[axis][2 - place] >= 0 else -1 for place, axis in enumerate(order))
    corner_mm = np.array(image.GetOrigin())
    for axis, step in zip(order, steps, strict=True):
        if step < 0:
            corner_mm += vectors[axis] * spacing_mm[axis] * (stored.shape[axis] - 1)
    return VolumeFile(
        path,
        stored.transpose(order)[tuple(slice(None, None, step) for step in steps)],
        tuple(spacing_mm[axis] for axis in order),
        np.array([step * vectors[axis] for axis, step in zip(order, steps, strict=True)]),
        corner_mm,
        sha256,
        note,
        image,
        (order, steps),
    )

"""A CT volume in one file, NIfTI, NRRD or MetaImage: its slices as DICOM would order them, and the way back.

SimpleITK reads and writes all three. Positions are those of DICOM (patient coordinates, LPS, in mm) whatever the format
says them in.
"""

import gzip
import hashlib
import itertools
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kpn_tf.console import silenced
from kpn_tf.dicom.reading.bounded import MOST_PIXELS
from kpn_tf.dicom.reading.header import LARGEST_HU
from kpn_tf.dicom.refusal import DicomError

# Name's end -> SimpleITK's reader, and the end of a derived file: that of one file where the source is a header and a
# file of pixels.
_FORMATS = {
    ".nii.gz": ("NiftiImageIO", ".nii.gz"),
    ".nii": ("NiftiImageIO", ".nii"),
    ".nrrd": ("NrrdImageIO", ".nrrd"),
    ".nhdr": ("NrrdImageIO", ".nrrd"),
    ".mha": ("MetaImageIO", ".mha"),
    ".mhd": ("MetaImageIO", ".mha"),
}

MISSING = "is a volume in one file, which needs the volumes extra: in a checkout, pip install '.[volumes]'"

# Four thousand slices of 512x512; a header of a few bytes could ask for any amount.
MOST_VOXELS = 1_000_000_000

# Axes of one scan are perpendicular, up to the rounding of 32 bits.
_PERPENDICULAR = 1e-3

_BLOCK = 2**20

# Codes of NIfTI for numbers that may be NaN.
_NIFTI_FLOATS = {"16": "f4", "64": "f8"}

# What the field of NIfTI that says how a file was made has room for, without the zero at its end.
_LONGEST_NOTE = 79


def volume_suffix(path):
    """The end of a name that makes it a volume file, such as `".nii.gz"`; `None` of any other name."""
    name = os.path.basename(path).lower()
    # What macOS puts beside a file has its name behind two characters, and is none.
    if name.startswith("._"):
        return None
    return next((suffix for suffix in _FORMATS if name.endswith(suffix)), None)


def derived_name(path, what):
    """Name of the file that is made of a volume file.

    Example:

    >>> derived_name("CT/scan.nii.gz", "denoised"), derived_name("scan.mhd", "dose_25")
    ('scan_denoised.nii.gz', 'scan_dose_25.mha')
    """
    suffix = volume_suffix(path)
    return f"{os.path.basename(path)[: -len(suffix)]}_{what}{_FORMATS[suffix][1]}"


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
            path: A `pathlib.Path` with the end of `derived_name`; an existing file is replaced.
            volume_hu: `(Z, H, W)` in HU, finite. Whole numbers where the source has them (rounded half to even, then
                clipped to its type), else float32.
            note: How it was made; NIfTI keeps 79 characters of it.
            more: The same in full, for formats with room for it.

        Raises:
            OSError: If it cannot be written.
        """
        sitk = _simple_itk()
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
    sitk = _simple_itk(path)
    suffix = volume_suffix(path)
    damaged = f"cannot be read as {suffix}: it is damaged, cut off, or something else"
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_FORMATS[suffix][0])
    reader.SetFileName(str(path))
    try:
        with silenced():
            reader.ReadImageInformation()
            _check_header(path, reader, sitk)
            if _FORMATS[suffix][0] == "NiftiImageIO":
                _check_nifti(path, reader, damaged)
            image = reader.Execute()
    except DicomError:
        raise
    except (RuntimeError, OSError, EOFError, gzip.zlib.error) as error:
        if "orthonormal" in str(error):
            damaged = "has axes that are not perpendicular; resample it onto a grid without shear"
        raise DicomError(path, damaged) from error
    stored = sitk.GetArrayViewFromImage(image)
    if stored.dtype.kind == "f":
        _check_finite(path, stored)
    if stored.size and max(-float(stored.min()), float(stored.max())) > LARGEST_HU:
        raise DicomError(path, f"holds values beyond {LARGEST_HU:g}, which are no HU")
    keys = image.GetMetaDataKeys()
    note = image.GetMetaData("ITK_FileNotes") if "ITK_FileNotes" in keys else ""
    place = repr((image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()))
    sha256 = hashlib.sha256(stored)
    sha256.update(place.encode())
    return _placed(path, stored, image, sha256.hexdigest(), note)


def _simple_itk(path=None):
    try:
        import SimpleITK
    except ImportError:
        raise DicomError(path, MISSING) from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _check_header(path, reader, sitk):
    sizes = reader.GetSize()
    if reader.GetDimension() != 3:
        raise DicomError(
            path,
            f"has {reader.GetDimension()} axes ({' x '.join(map(str, sizes))}); expected three: one volume at one time",
            failure=False,
        )
    if reader.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(
        reader.GetPixelIDValue()
    ):
        raise DicomError(path, "holds more than one number a voxel, so no HU", failure=False)
    if math.prod(sizes) > MOST_VOXELS or math.prod(sorted(sizes)[1:]) > MOST_PIXELS:
        raise DicomError(path, f"claims {' x '.join(map(str, sizes))} voxels, more than any CT")
    axes = np.reshape(reader.GetDirection(), (3, 3)).T
    numbers = (*reader.GetSpacing(), *reader.GetOrigin(), *axes.ravel())
    if not np.isfinite(numbers).all() or min(reader.GetSpacing()) <= 0:
        raise DicomError(path, "has no usable voxel size or position")
    if not np.allclose(axes @ axes.T, np.eye(3), rtol=0, atol=_PERPENDICULAR):
        raise DicomError(path, "has axes that are not perpendicular; resample it onto a grid without shear")


def _check_nifti(path, reader, damaged):
    """What SimpleITK does not say of NIfTI: it fills what is missing at the end, and writes 0 in place of NaN."""
    offset, voxels = int(float(reader.GetMetaData("vox_offset"))), math.prod(reader.GetSize())
    needed = offset + voxels * int(reader.GetMetaData("bitpix")) // 8
    with gzip.open(path) if volume_suffix(path).endswith(".gz") else open(path, "rb") as file:
        content = file.read(needed)
        # Where the end of what is compressed comes now, its checksum is looked at.
        file.read(_BLOCK)
    if len(content) < needed:
        raise DicomError(path, damaged)
    kind = _NIFTI_FLOATS.get(reader.GetMetaData("datatype"))
    if kind:
        # The first number of a header is its own length, 348 or 540.
        order = "<" if content[0] and not content[3] else ">"
        _check_finite(path, np.frombuffer(content, order + kind, voxels, offset))


def _check_finite(path, values):
    count = int(np.count_nonzero(~np.isfinite(values)))
    if count:
        raise DicomError(
            path, f"holds {count} values that are NaN or infinite; write air (-1024 HU) in their place"
        )


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

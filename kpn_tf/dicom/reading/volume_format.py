"""Volume files as SimpleITK reads them, and what it does not say of them."""

import gzip
import math
import os

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


def read_image(path):
    """Reads and checks a volume file.

    Args:
        path: Its path, a `pathlib.Path`.

    Returns:
        A `SimpleITK.Image` of three axes.

    Raises:
        DicomError: As of `kpn_tf.dicom.reading.volume_file.open_volume`.
    """
    sitk = simple_itk(path)
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
    if max(-float(stored.min()), float(stored.max())) > LARGEST_HU:
        raise DicomError(path, f"holds values beyond {LARGEST_HU:g}, which are no HU")
    return image


def simple_itk(path=None):
    """SimpleITK, without its warnings.

    Raises:
        DicomError: If it is not installed.
    """
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

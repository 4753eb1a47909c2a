"""Volume files for tests: a CT series of `tests.ct_series` in other axes, as converters store it."""

import numpy as np
import SimpleITK as sitk  # noqa: N813

# Axes of the stored array along patient coordinates: as DICOM has them, as dcm2niix writes them (rows from back to
# front), and slices from left to right, as viewers of other planes store them.
AS_DICOM, AS_DCM2NIIX, SAGITTAL = "dicom", "dcm2niix", "sagittal"


def write_volume_file(
    path, volume_hu, *, spacing_mm=(3.0, 0.8, 0.8), corner_mm=(-20.0, -20.0, 0.0), stored=AS_DICOM
):
    """Writes `(Z, H, W)` whole HU; `corner_mm` (x, y, z) is the middle of its first pixel."""
    slice_mm, row_mm, column_mm = spacing_mm
    x, y, z = np.eye(3)
    axes, steps = [x, y, z], [column_mm, row_mm, slice_mm]  # of columns, rows, slices
    corner_mm, array = np.array(corner_mm), np.asarray(volume_hu, "int16")
    if stored == AS_DCM2NIIX:
        corner_mm = corner_mm + y * row_mm * (array.shape[1] - 1)
        array, axes[1] = array[:, ::-1], -y
    if stored == SAGITTAL:
        array, axes, steps = array.transpose(2, 0, 1), [y, z, x], [row_mm, slice_mm, column_mm]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(steps)
    image.SetOrigin(corner_mm.tolist())
    image.SetDirection(np.array(axes).T.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path

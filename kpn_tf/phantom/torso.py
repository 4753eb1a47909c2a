"""A digital torso: every voxel's tissue is known and every tissue has one HU, so errors can be measured."""

from dataclasses import dataclass

import numpy as np

from kpn_tf.phantom.anatomy import LESIONS, TISSUE_HU, Lesion, Tissue, draw
from kpn_tf.phantom.canvas import Canvas

# Nine fine pixels to a pixel: partial volume in steps of 11 %.
_SUPERSAMPLING = 3

# Standard deviation of the point spread in the plane. Its transfer function falls to one half at 0.37 per mm,
# as that of a body kernel for soft tissue does; ideal edges would be edges no scanner shows.
_POINT_SPREAD_MM = 0.5

# What a scan of it would have: a routine abdomen has about 12 HU of noise; a quarter of the dose doubles it.
NORMAL_DOSE_NOISE_HU = 12.0


@dataclass(frozen=True)
class Torso:
    """The phantom and what is known about it.

    Args:
        volume_hu: `(Z, H, W)` float32, HU as a scanner without noise shows them: partial volume and
            point spread. From feet to head.
        labels: `(Z, H, W)` uint8, the `Tissue` or `Lesion.label` at the centre of each voxel.
        lesions: The lesions, whether or not the slices show them.
        pixel_spacing_mm: `(rows, columns)` distance between pixels.
        slice_spacing_mm: Distance between slices.
    """

    volume_hu: np.ndarray
    labels: np.ndarray
    lesions: tuple[Lesion, ...]
    pixel_spacing_mm: tuple[float, float]
    slice_spacing_mm: float

    def lesion_contrasts_hu(self, volume_hu):
        """Mean HU of each lesion minus the liver beside it, measured in some version of the volume.

        Args:
            volume_hu: `(Z, H, W)` in HU: noisy, denoised or the truth.

        Returns:
            `(len(lesions),)` in HU; NaN for a lesion that no slice shows.

        Raises:
            ValueError: If the shape is not that of the phantom.
        """
        volume_hu = np.asarray(volume_hu)
        if volume_hu.shape != self.labels.shape:
            raise ValueError(f"Expected a volume of {self.labels.shape}. Received: {volume_hu.shape}")
        contrasts_hu = np.full(len(self.lesions), np.nan)
        for i, lesion in enumerate(self.lesions):
            inside = np.argwhere(self.labels == lesion.label)
            if len(inside) == 0:
                continue
            margin = [0, *(round(0.8 * lesion.radius_mm / mm) for mm in self.pixel_spacing_mm)]
            low, high = np.maximum(inside.min(0) - margin, 0), inside.max(0) + margin + 1
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            labels, values_hu = self.labels[box], volume_hu[box]
            around_hu = values_hu[labels == Tissue.LIVER].mean()
            contrasts_hu[i] = values_hu[labels == lesion.label].mean() - around_hu
        return contrasts_hu


def torso(rows=512, columns=512, slices=24, pixel_spacing_mm=0.75, slice_spacing_mm=3.0, lesions=LESIONS):
    """Draws the torso; the same arguments give the same torso.

    Args:
        rows: Height of a slice in pixels.
        columns: Width of a slice in pixels.
        slices: Number of slices.
        pixel_spacing_mm: Distance between pixels; the body is 340 mm wide and 232 mm deep.
        slice_spacing_mm: Distance between slices; lungs, heart and liver are drawn for 80 mm along z.
        lesions: `Lesion`s in its liver; of contrast 0 HU, the same liver without them.

    Returns:
        A `Torso`.

    Raises:
        ValueError: If a size or a spacing is not positive.

    Example:

    >>> small = torso(rows=48, columns=64, slices=2, pixel_spacing_mm=6.0)
    >>> small.volume_hu.shape, float(small.volume_hu.min())
    ((2, 48, 64), -1000.0)
    """
    if min(rows, columns, slices) < 1 or min(pixel_spacing_mm, slice_spacing_mm) <= 0:
        raise ValueError(
            "Expected positive sizes and spacings. Received: "
            f"{slices}x{rows}x{columns} voxels, {pixel_spacing_mm} mm and {slice_spacing_mm} mm"
        )
    hu_of_label = np.zeros(256, np.float32)
    for tissue, hu in TISSUE_HU.items():
        hu_of_label[tissue] = hu
    for lesion in lesions:
        hu_of_label[lesion.label] = TISSUE_HU[Tissue.LIVER] + lesion.contrast_hu
    volume_hu = np.empty((slices, rows, columns), np.float32)
    labels = np.empty((slices, rows, columns), np.uint8)
    k = _SUPERSAMPLING
    for i in range(slices):
        z_mm = (i - (slices - 1) / 2) * slice_spacing_mm
        canvas = Canvas(rows * k, columns * k, pixel_spacing_mm / k, z_mm)
        draw(canvas, lesions)
        fine_hu = hu_of_label[canvas.labels]  # (kH, kW)
        mean_hu = sum(fine_hu[a::k, b::k] for a in range(k) for b in range(k)) / k**2  # (H, W)
        volume_hu[i] = _spread(mean_hu, _POINT_SPREAD_MM / pixel_spacing_mm)
        labels[i] = canvas.labels[k // 2 :: k, k // 2 :: k]
    return Torso(volume_hu, labels, tuple(lesions), (pixel_spacing_mm,) * 2, slice_spacing_mm)


def _spread(slice_hu, sigma_pixels):
    """Gaussian blur, the border repeated; in float64, so that even tissue keeps its HU to the last bit."""
    radius = int(np.ceil(3 * sigma_pixels))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_pixels) ** 2)
    taps /= taps.sum()
    rows, columns = slice_hu.shape
    padded = np.pad(slice_hu.astype(np.float64), radius, mode="edge")
    padded = sum(tap * padded[i : i + rows] for i, tap in enumerate(taps))
    return sum(tap * padded[:, i : i + columns] for i, tap in enumerate(taps))

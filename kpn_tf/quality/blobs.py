"""Blobs in tissue without lesions: what is left of the noise there and could be taken for one."""

import numpy as np

from kpn_tf.metrics import regional_noise_std_hu
from kpn_tf.quality.intervals import bootstrap
from kpn_tf.quality.report import BEFORE
from kpn_tf.quality.slices import quantity

# What is looked for: as large as the smallest lesion of the torso, and of less contrast than the faintest.
BLOB_MM, BLOB_HU = 8.0, 10.0

# Tissue is flat where the truth varies by no more around a pixel, over the width of a blob.
_FLAT_HU = 1.0
_SOFT_HU = (0.0, 150.0)


def blobs(residual_hu, flat, pixel_mm):
    """Blobs in what differs from the truth: extremes of its mean over a blob.

    The mean is weighed with a Gaussian of a quarter of a blob's width: at the centre of a disc as wide as a blob it is
    86 % of the disc's contrast. A pixel counts where it is beyond `BLOB_HU`, of either sign, and is the farthest from
    zero within half of a blob's width along rows and columns.

    Args:
        residual_hu: `(H, W)` in HU, the slice minus the truth.
        flat: `(H, W)` bool, where blobs count.
        pixel_mm: Side of a pixel in mm.

    Returns:
        Number of blobs.
    """
    mean_hu = np.abs(_smoothed(residual_hu, BLOB_MM / 4 / pixel_mm))
    farthest = _filtered(mean_hu, round(BLOB_MM / 2 / pixel_mm), np.maximum)
    return int(np.count_nonzero(flat & (mean_hu > BLOB_HU) & (mean_hu == farthest)))


def flat_tissue(truth_hu, pixel_mm):
    """Soft tissue without edges within a blob's width: `(H, W)` in HU to bool."""
    radius = round(BLOB_MM / pixel_mm)
    varies_hu = _filtered(truth_hu, radius, np.maximum) - _filtered(truth_hu, radius, np.minimum)
    return (varies_hu <= _FLAT_HU) & (truth_hu > _SOFT_HU[0]) & (truth_hu < _SOFT_HU[1])


class BlobMeasures:
    """Counts blobs in scans without lesions, and in the slice before at the noise that each denoiser leaves.

    Args:
        kinds: "before" and the denoisers.
    """

    def __init__(self, kinds):
        self.kinds = kinds
        self._counts = []  # of each scan: by kind (per dm², and of the slice before at its noise)

    def add(self, truth_hu, slices_hu, regions, pixel_mm):
        """Counts those of a scan.

        Args:
            truth_hu: `(H, W)` in HU.
            slices_hu: Dict of `(H, W)` in HU by kind.
            regions: Boxes to measure noise in.
            pixel_mm: Side of a pixel in mm.
        """
        flat = flat_tissue(truth_hu, pixel_mm)
        per_dm2 = 1e4 / max(np.count_nonzero(flat) * pixel_mm**2, 1e-9)
        noise_hu = {kind: regional_noise_std_hu(slices_hu[kind], regions) for kind in self.kinds}
        before_hu = slices_hu[BEFORE] - truth_hu
        self._counts.append(
            [
                [
                    per_dm2 * blobs(slices_hu[kind] - truth_hu, flat, pixel_mm),
                    per_dm2 * blobs(before_hu * (noise_hu[kind] / noise_hu[BEFORE]), flat, pixel_mm),
                ]
                for kind in self.kinds
            ]
        )

    def quantities(self, dose):
        """List of `Quantity`: the blobs, and those of the slice before, blended with the truth to the same noise."""
        counts = np.array(self._counts)  # (scans, kinds, 2)
        found = []
        for i, name in enumerate(("blobs", "blobs, before at the same noise")):
            values, draws = bootstrap(lambda n, i=i: counts[n, :, i].mean(axis=0), len(counts))
            found.append(quantity(name, "1/dm²", "flat soft tissue", dose, self.kinds, values, draws))
        return found

    @staticmethod
    def conventions():
        """What the numbers mean."""
        return {
            "blobs": f"extremes beyond {BLOB_HU:g} HU of the difference from the truth, averaged over {BLOB_MM:g} mm, "
            "in scans without lesions; before at the same noise: the slice before, blended with the truth until it has "
            "as much noise as the denoised one"
        }


def _smoothed(image, sigma):
    """Gaussian mean of standard deviation `sigma` pixels, borders mirrored."""
    radius = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        image = sum(
            weight * np.take(padded, np.arange(image.shape[axis]) + shift, axis=axis)
            for shift, weight in enumerate(weights)
        )
    return image


def _filtered(image, radius, extreme):
    """Greatest or least value of a square of `2 * radius + 1` pixels."""
    for axis in (0, 1):
        padded = np.pad(image, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=axis)
        image = extreme.reduce(windows, axis=-1)
    return image

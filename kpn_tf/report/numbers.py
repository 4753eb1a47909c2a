"""The numbers of a report: each slice measured before and after, and the means over its slices."""

import numpy as np

from kpn_tf.hounsfield import WINDOWS
from kpn_tf.metrics import SSIM_FLAVOURS, flat_regions, psnr, regional_noise_std_hu, rmse_hu, ssim

_SOFT = WINDOWS["soft"]
# Uniform, in windows of 7×7 pixels.
_FLAVOUR, _SSIM_SIDE = SSIM_FLAVOURS[0], 7

# Name of a number -> its heading and digits.
_HEADINGS = {
    "noise": ("noise SD (HU)", 1),
    "mean": ("mean of flat tissue (HU)", 1),
    "psnr": ("PSNR soft (dB)", 2),
    "ssim": ("SSIM soft", 4),
    "rmse": ("RMSE (HU)", 2),
}

NOISE_NOTE = (
    "Noise and mean: in the flattest 15 mm boxes of soft tissue before, the same after; means over slices."
)
REFERENCE_NOTE = (
    "Against the normal dose: full frame; PSNR and SSIM (uniform 7×7) clipped to "
    f"[{_SOFT.low_hu:g}, {_SOFT.high_hu:g}] HU, data range {_SOFT.width_hu:g} HU."
)


def measured(piece):
    """Measures one slice.

    Args:
        piece: `kpn_tf.report.content.ReportSlice`.

    Returns:
        Dict of `(before, after)` by the name of the number, NaN where there is no flat tissue, or no room for a
        window of SSIM.
    """
    before_hu, after_hu = (piece.filled_hu(kind).astype(np.float64) for kind in ("before", "after"))
    regions = flat_regions(before_hu, piece.pixel_spacing_mm, np.isnan(piece.images_hu["before"]))
    functions = {
        "noise": lambda slice_hu: regional_noise_std_hu(slice_hu, regions),
        "mean": lambda slice_hu: float(np.mean([slice_hu[r].mean() for r in regions])) if regions else np.nan,
    }
    if "reference" in piece.images_hu:
        normal_hu = piece.filled_hu("reference")
        functions |= {
            "psnr": lambda slice_hu: psnr(normal_hu, slice_hu, convention="soft"),
            "ssim": lambda slice_hu: _ssim(normal_hu, slice_hu),
            "rmse": lambda slice_hu: rmse_hu(normal_hu, slice_hu),
        }
    return {name: (function(before_hu), function(after_hu)) for name, function in functions.items()}


def _ssim(normal_hu, slice_hu):
    if min(slice_hu.shape) < _SSIM_SIDE:
        return np.nan
    return ssim(normal_hu, slice_hu, convention="soft", flavour=_FLAVOUR)


def rows(records):
    """Means over slices as the page shows them: `[heading, before, after]`, all text.

    Args:
        records: What `measured` returned for each slice.
    """
    table = []
    for name in records[0]:
        heading, digits = _HEADINGS[name]
        values = np.array([record[name] for record in records])  # (N, 2)
        values = values[~np.isnan(values).any(axis=1)]
        cells = [f"{mean:.{digits}f}" for mean in values.mean(axis=0)] if len(values) else ["–", "–"]
        table.append([heading, *cells])
    return table

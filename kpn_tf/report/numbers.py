"""The numbers of a report: the images of each slice measured, and their means over the slices of a series."""

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
    "Noise and mean: in the flattest 15 mm boxes of soft tissue before, the same in all images; means over the slices "
    "that all of them have."
)
REFERENCE_NOTE = (
    "Against the normal dose: full frame; PSNR and SSIM (uniform 7×7) clipped to "
    f"[{_SOFT.low_hu:g}, {_SOFT.high_hu:g}] HU, data range {_SOFT.width_hu:g} HU."
)


def measured(piece, strengths):
    """Measures one slice.

    Args:
        piece: `kpn_tf.report.content.ReportSlice`.
        strengths: Shares of the correction, each measured.

    Returns:
        Dict of one dict per number, by its name: HU, dB or none by the column of the table, NaN where there is no flat
        tissue, or no room for a window of SSIM. `"variance"` are the three coefficients, lowest first, of the noise
        variance as a polynomial of the strength.
    """
    images_hu = {kind: piece.filled_hu(kind).astype(np.float64) for kind in piece.images_hu}
    before_hu, after_hu = images_hu["before"], images_hu.pop("after")
    regions = flat_regions(before_hu, piece.pixel_spacing_mm, np.isnan(piece.images_hu["before"]))

    def weakened_hu(strength):
        return before_hu + strength * (after_hu - before_hu)

    columns = {"before": images_hu.pop("before")}
    columns |= {_after(strength): weakened_hu(strength) for strength in strengths}
    columns |= images_hu
    functions = {
        "noise": lambda slice_hu: regional_noise_std_hu(slice_hu, regions),
        "mean": lambda slice_hu: float(np.mean([slice_hu[r].mean() for r in regions])) if regions else np.nan,
    }
    if "reference" in images_hu:
        normal_hu = images_hu["reference"]
        functions |= {
            "psnr": lambda slice_hu: psnr(normal_hu, slice_hu, convention="soft"),
            "ssim": lambda slice_hu: _ssim(normal_hu, slice_hu),
            "rmse": lambda slice_hu: rmse_hu(normal_hu, slice_hu),
        }
    record = {
        name: {
            # A reference has no distance from itself.
            column: np.nan
            if column == "reference" and name in ("psnr", "ssim", "rmse")
            else function(slice_hu)
            for column, slice_hu in columns.items()
        }
        for name, function in functions.items()
    }
    # The SD about a plane is that of a linear function of the slice: three strengths tell those of all.
    none, half, full = (
        regional_noise_std_hu(weakened_hu(strength), regions) ** 2 for strength in (0, 0.5, 1)
    )
    return record | {"variance": [none, 4 * half - 3 * none - full, 2 * (none + full) - 4 * half]}


def _after(strength):
    return f"after, {strength:g}"


def _ssim(normal_hu, slice_hu):
    if min(slice_hu.shape) < _SSIM_SIDE:
        return np.nan
    return ssim(normal_hu, slice_hu, convention="soft", flavour=_FLAVOUR)


def summary(records):
    """Means over the slices of a series.

    Args:
        records: What `measured` returned for each.

    Returns:
        Dict of `"rows"`, the headings and the rows of the table, all text, and `"variances"`, the coefficients for each
        slice with flat tissue.
    """
    columns = list(dict.fromkeys(column for record in records for column in record["noise"]))
    rows = [["", *columns]]
    for name in _HEADINGS:
        if any(name in record for record in records):
            heading, digits = _HEADINGS[name]
            values = np.array(
                [[record[name].get(column, np.nan) for column in columns] for record in records]
            )
            means = _means(values)
            rows.append([heading, *("–" if np.isnan(mean) else f"{mean:.{digits}f}" for mean in means)])
    variances = np.array([record["variance"] for record in records])
    return {"rows": rows, "variances": variances[~np.isnan(variances).any(axis=1)].tolist()}


def _means(values):
    """Means of `(N, C)` over the rows that have all of what any row has; NaN without such."""
    known = ~np.isnan(values)
    whole = known[:, known.any(axis=0)].all(axis=1)
    return values[whole].mean(axis=0) if known.any() and whole.any() else np.full(values.shape[1], np.nan)

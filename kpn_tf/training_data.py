"""Folders of normal-dose series -> the slices that train a network, and the pairs that choose its best weights."""

import numpy as np

from kpn_tf.dicom import DicomError, find_series, read_slice
from kpn_tf.evaluation import Pair
from kpn_tf.evaluation.matching import series_name
from kpn_tf.low_dose import LowDoseError, inside_hu, square_pixel_mm
from kpn_tf.normal_dose import SeriesNoise, noise_like, quiet_slabs, series_noise, simulate_low_dose
from kpn_tf.pairs import training_slices
from kpn_tf.simulation import SPECTRA

# The low dose that networks are trained for, as a fraction of the normal dose.
DOSE = 0.25

# Noise of a usual normal dose in HU (3 mm slices, soft kernel): what a quiet validation series is brought to.
USUAL_NOISE_HU = 16.0

# Slices of a validation series, per dose.
VALIDATION_SLICES = 6


def training_folder(folder, patch, rng, *, note, tell=lambda line: None, progress=lambda name: iter):
    """Quiet targets with noise fields from every usable series of a folder.

    Args:
        folder: CT file, or folder that is searched recursively.
        patch: Side of the patches to come in pixels: series of smaller slices are left out.
        rng: `numpy.random.Generator`.
        note: Called with `(line, failure)` for everything that is left out.
        tell: Called with a line for every series that is taken.
        progress: From the name of a series to what wraps the iteration over its slices, such as `tqdm`.

    Returns:
        List of `kpn_tf.pairs.TrainingSlice`.
    """
    slices = []
    for name, volume_hu, pixel_mm, step_mm in volumes(folder, note):
        try:
            if min(volume_hu.shape[1:]) < patch:
                raise ValueError(f"its slices are smaller than a patch of {patch} x {patch} pixels")
            slabs, noise = quiet_slabs(volume_hu, pixel_mm, step_mm)
        except ValueError as error:
            note(f"{name}: {error}", False)
            continue
        tell(f"{name}: {len(volume_hu)} slices, {len(slabs)} targets with {noise.std_hu:.1f} HU of noise")
        # Quieter targets are better ones; a series must not outweigh another by its number of slices alone.
        weight = 1 / (noise.std_hu * np.sqrt(len(slabs)))
        slices += training_slices(slabs, pixel_mm, noise, rng, weight=weight, progress=progress(name))
    return slices


def validation_folder(folder, rng, *, note):
    """A few slices of every usable series, at two doses: its own, and the usual noise of a 3 mm soft-kernel series.

    Args:
        folder: CT file, or folder that is searched recursively.
        rng: `numpy.random.Generator`.
        note: Called with `(line, failure)` for everything that is left out.

    Returns:
        List of `kpn_tf.evaluation.Pair`.
    """
    pairs = []
    for name, volume_hu, pixel_mm, _ in volumes(folder, note):
        try:
            noise = series_noise(volume_hu, pixel_mm)
        except ValueError as error:
            note(f"{name}: {error}", False)
            continue
        count = min(VALIDATION_SLICES, len(volume_hu))
        for index in np.unique(np.linspace(0, len(volume_hu) - 1, count + 2).astype(int)[1:-1]):
            normal_hu = volume_hu[index]
            named = f"{name} slice {index + 1}"
            low_hu = simulate_low_dose(normal_hu, pixel_mm, dose=DOSE, noise=noise, rng=rng)
            pairs.append(Pair(low_hu, normal_hu, name, f"{named}, own noise", (pixel_mm,) * 2))
            if noise.std_hu < USUAL_NOISE_HU:
                missing_hu = np.sqrt(USUAL_NOISE_HU**2 - noise.std_hu**2)
                normal_hu = normal_hu + noise_like(normal_hu, pixel_mm, missing_hu, SPECTRA["soft"], rng)
                usual = SeriesNoise(USUAL_NOISE_HU, SPECTRA["soft"])
                low_hu = simulate_low_dose(normal_hu, pixel_mm, dose=DOSE, noise=usual, rng=rng)
                pairs.append(Pair(low_hu, normal_hu, name, f"{named}, usual noise", (pixel_mm,) * 2))
    return pairs


def volumes(folder, note):
    """Normal-dose series of a folder as volumes.

    Args:
        folder: CT file, or folder that is searched recursively.
        note: Called with `(line, failure)` for everything that is left out.

    Yields:
        `(name, volume_hu, pixel_mm, step_mm)`; outside the field of view there is air, and the step from slice
        to slice is infinite where slices share a position: they cannot be averaged into thicker ones.
    """
    found, refusals = find_series(folder)
    for refusal in refusals:
        note(f"{refusal.path}: {refusal.reason}", refusal.failure)
    for series in found:
        name = series_name(series)
        if series.denoised or series.simulated:
            note(f"{name}: made by kpn_tf, no normal-dose scan", False)
            continue
        try:
            pixel_mm = square_pixel_mm(series.pixel_spacing_mm)
            volume_hu = np.stack([inside_hu(read_slice(file.path, file.frame)) for file in series.slices])
        except DicomError as error:
            note(f"{name}: {error}", True)
            continue
        except LowDoseError as error:
            note(f"{name}: {error}", False)
            continue
        steps_mm = np.diff([file.position_mm for file in series.slices])
        evenly = len(steps_mm) > 0 and steps_mm.min() > 0
        yield name, volume_hu, pixel_mm, float(np.median(steps_mm)) if evenly else np.inf

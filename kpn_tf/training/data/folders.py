"""Folders of normal-dose series -> the slices that train a network, and the pairs that choose its best weights."""

import hashlib
import os
from dataclasses import replace

import numpy as np

from kpn_tf.dicom import DicomError, find_series, other_scale, read_slice
from kpn_tf.dose.low_dose import LowDoseError, inside_hu, like_slices, square_pixel_mm
from kpn_tf.dose.series_noise import SeriesNoise, noise_along_z, noise_like, quiet_slabs, simulate_low_dose
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.evaluation import Pair
from kpn_tf.evaluation.matching import series_name
from kpn_tf.training.data.slices import one_by_one, skip_draws
from kpn_tf.training.data.store import EmptyStoreError, StoreError, StoreWriter, is_store, open_store

# The low dose that networks are trained for, as a fraction of the normal dose.
DOSE = 0.25

# Noise of a usual normal dose in HU (3 mm slices, soft kernel): what a quiet validation series is brought to.
USUAL_NOISE_HU = 16.0

# Slices of a validation series, per dose.
VALIDATION_SLICES = 6


def training_folder(folder, patch, rng, *, scratch, note, tell=lambda line: None, progress=lambda name: iter):
    """Low-noise targets with noise fields from every usable series of a folder, or those of a store.

    Args:
        folder: CT file, folder that is searched recursively, or store.
        patch: Side of the patches to come in pixels: series of smaller slices are left out.
        rng: `numpy.random.Generator`; a store has its noise already.
        scratch: Folder for a scratch store of what is no store; not there yet.
        note: Callback `(line, failure)` for skipped inputs.
        tell: Called with a line for every series that is taken.
        progress: From the name of a series to what wraps the iteration over its slices, such as `tqdm`.

    Returns:
        `kpn_tf.training.data.store.StoredSlices`.

    Raises:
        StoreError: If a store is damaged, unfinished, of another version, or not alone.
    """
    if not is_store(folder):
        try:
            prepare([folder], scratch, rng, note=note, tell=tell, progress=progress)
        except EmptyStoreError:
            return ()
        folder = scratch
    return open_store(folder).of_side(patch, note)


def prepare(inputs, folder, rng, *, note, tell=lambda line: None, progress=lambda name: iter):
    """Writes low-noise targets with noise fields from every usable series into a store, one series in memory at a time.

    The same call goes on where a killed one stopped: what is in the store is neither read nor computed again.

    Args:
        inputs: CT files, or folders that are searched recursively, one after the other.
        folder: For the store: new, empty, or left unfinished by the same call.
        rng: `numpy.random.Generator` that has drawn nothing.
        note: Callback `(line, failure)` for skipped inputs.
        tell: Called with a line for every series that is taken.
        progress: From the name of a series to what wraps the iteration over its slices, such as `tqdm`.

    Returns:
        Number of slices in the store.

    Raises:
        StoreError: If the folder holds something else, or an input holds a store.
        EmptyStoreError: If no series is usable.
    """
    origin = hashlib.sha256(repr(rng.bit_generator.state).encode()).hexdigest()
    seen = set()
    with StoreWriter(folder, origin) as store:
        for name, series in (found for path in inputs for found in normal_dose_series(path, note)):
            identity = "\n".join([series.key, *(file.sop_instance_uid for file in series.slices)])
            if identity in seen:
                note(f"{name}: is there a second time", False)
                continue
            before = store.find(identity)
            if before:
                seen.add(identity)
                skip_draws(before["slices"], rng)
                tell(f"{name}: in the store already")
                continue
            try:
                volume_hu, pixel_mm, step_mm = volume(series)
                slabs, noises = quiet_slabs(volume_hu, pixel_mm, step_mm)
            except ValueError as error:
                note(f"{name}: {error}", isinstance(error, DicomError))
                continue
            seen.add(identity)
            std_hu = float(np.median([noise.std_hu for noise in noises]))
            tell(f"{name}: {len(volume_hu)} slices, {len(slabs)} targets with {std_hu:.1f} HU of noise")
            # Quieter targets are better ones; a series must not outweigh another by its number of slices alone.
            weight = 1 / (std_hu * np.sqrt(len(slabs)))
            store.add(
                one_by_one(slabs, pixel_mm, noises, rng, weight=weight, progress=progress(name)),
                len(slabs),
                identity=identity,
                patient=series.patient,
                pixel_mm=pixel_mm,
                spectrum=noises[0].spectrum,
                shape=slabs.shape[1:],
            )
        return store.finish()


def validation_folder(folder, rng, *, note):
    """A few slices of every usable series, at two doses: its own, and the usual noise of a 3 mm soft-kernel series.

    Args:
        folder: CT file, or folder that is searched recursively.
        rng: `numpy.random.Generator`.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        List of `kpn_tf.evaluation.Pair`.
    """
    pairs = []
    for name, volume_hu, pixel_mm, _ in volumes(folder, note):
        try:
            noises = noise_along_z(volume_hu, pixel_mm)
        except ValueError as error:
            note(f"{name}: {error}", False)
            continue
        count = min(VALIDATION_SLICES, len(volume_hu))
        for index in np.unique(np.linspace(0, len(volume_hu) - 1, count + 2).astype(int)[1:-1]):
            normal_hu = volume_hu[index]
            named = f"{name} slice {index + 1}"
            noise = noises[index]
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
        note: Callback `(line, failure)` for skipped inputs.

    Yields:
        `(name, volume_hu, pixel_mm, step_mm)`, as of `volume`.
    """
    for name, series in normal_dose_series(folder, note):
        try:
            yield name, *volume(series)
        except (DicomError, LowDoseError) as error:
            note(f"{name}: {error}", isinstance(error, DicomError))


def normal_dose_series(folder, note):
    """Series of a folder that hold HU and that this package did not make.

    Args:
        folder: CT file, or folder that is searched recursively.
        note: Callback `(line, failure)` for skipped inputs.

    Yields:
        `(name, series)`: what to call it, and a `kpn_tf.dicom.Series`, one for each thickness and acquisition.

    Raises:
        StoreError: If the folder holds a store.
    """
    for parent, _, _ in os.walk(folder):
        if is_store(parent):
            raise StoreError(f"Expected DICOM in {folder}. Received: a store, {parent}; keep the two apart")
    found, refusals = find_series(folder)
    for refusal in refusals:
        note(f"{refusal.path}: {refusal.reason}", refusal.failure)
    for series in found:
        name = series_name(series)
        if series.denoised or series.simulated:
            note(f"{name}: made by kpn_tf, no normal-dose scan", False)
        elif no_hu := other_scale([series]):
            note(f"{name}: {no_hu}", False)
        else:
            # Thin slices and thick ones make no slab together, and have no noise in common.
            for files in like_slices(series):
                yield name, replace(series, slices=tuple(files))


def volume(series):
    """Reads a series.

    Args:
        series: `kpn_tf.dicom.Series`.

    Returns:
        `(volume_hu, pixel_mm, step_mm)`; outside the field of view there is air, and the step from slice to slice is
        infinite where slices share a position: they cannot be averaged into thicker ones.

    Raises:
        DicomError: If a slice cannot be read.
        LowDoseError: If its pixels are not square.
    """
    pixel_mm = square_pixel_mm(series.pixel_spacing_mm)
    volume_hu = np.empty((len(series.slices), series.rows, series.columns), "float32")
    for slice_hu, file in zip(volume_hu, series.slices, strict=True):
        slice_hu[:] = inside_hu(read_slice(file.path, file.frame))
    steps_mm = np.diff([file.position_mm for file in series.slices])
    evenly = len(steps_mm) > 0 and steps_mm.min() > 0
    return volume_hu, pixel_mm, float(np.median(steps_mm)) if evenly else np.inf

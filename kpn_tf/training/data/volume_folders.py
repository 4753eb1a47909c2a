"""Folders of normal-dose series -> the low-noise volumes that train a network for stacks of slices."""

import dataclasses
import hashlib

import numpy as np

from kpn_tf.denoiser import Denoiser
from kpn_tf.denoiser.artefact import open_artefact
from kpn_tf.dicom import DicomError
from kpn_tf.dose.series_noise import NoNoiseError, series_noise
from kpn_tf.training.data.folders import normal_dose_series, volume
from kpn_tf.training.data.volumes import load_volume, save_volume, training_volume, with_most_soft_tissue

# Low-noise targets are the series denoised by the first network, slice by slice, and what comes out by the second, with
# neighbours: a slab mean would be no single slice, and what one network leaves is another in every slice.
CLEANED_BY = ("edge", "stack")


def training_volumes(folder, cache, seed, *, note, tell=lambda line: None, progress=lambda name: iter):
    """low-noise volumes with noise fields from every usable series of a folder.

    Args:
        folder: CT file, or folder that is searched recursively.
        cache: Folder for the volumes; what is there already is not made again.
        seed: Of the noise.
        note: Callback `(line, failure)` for skipped inputs.
        tell: Called with a line for every series that is taken.
        progress: From the name of a series to what wraps the iteration over its slices, such as `tqdm`.

    Returns:
        List of `kpn_tf.training.data.volumes.TrainingVolume`.
    """
    cleaners = _cleaners()
    hashes = "\n".join(denoise.artefact.weights_sha256 for denoise in cleaners)
    volumes = []
    for name, series in normal_dose_series(folder, note):
        identity = "\n".join(file.sop_instance_uid for file in series.slices)
        digest = hashlib.sha256(f"{hashes}\n{seed}\n{identity}".encode()).hexdigest()[:16]
        made = load_volume(cache / digest)
        if made is None:
            try:
                made = _made(series, cleaners, np.random.default_rng(int(digest, 16)), progress(name))
            except ValueError as error:
                note(f"{name}: {error}", isinstance(error, DicomError))
                continue
            save_volume(made, cache / digest)
            made = load_volume(cache / digest)
        volumes.append(made)
        tell(
            f"{name}: {len(made.target_hu)} slices, {made.step_mm:g} mm from one to the next, "
            f"{made.noise_std_hu:.1f} HU of noise left, correlation {made.correlation:.2f}"
        )
    return volumes


def _cleaners():
    # Without the network for slices without near neighbours: thick slices too are cleaned by two networks.
    return [Denoiser(dataclasses.replace(open_artefact(name), alone=None)) for name in CLEANED_BY]


def _made(series, cleaners, rng, progress):
    volume_hu, pixel_mm, step_mm = volume(series)
    noise = series_noise(volume_hu, pixel_mm)
    target_hu = with_most_soft_tissue(volume_hu)
    for denoise in cleaners:
        target_hu = denoise.volume(target_hu, slice_spacing_mm=step_mm)
    try:
        left_hu = series_noise(target_hu, pixel_mm).std_hu
    except NoNoiseError:
        left_hu = 0.0
    return training_volume(
        target_hu,
        pixel_mm,
        step_mm,
        noise=noise,
        correlation=noise.correlation,
        noise_std_hu=left_hu,
        rng=rng,
        progress=progress,
    )

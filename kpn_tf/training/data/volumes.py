"""Low-noise volumes with noise that fits their anatomy: what stacks of neighbouring slices are drawn from."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kpn_tf.dose.series_noise import noise_like
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.files import replacing

# Noise fields are made for slices so far apart: over less, the anatomy that shapes them hardly changes.
FIELD_STEP_MM = 5.0

# Most places with fields in a volume, and most slices: of a longer series those with the most soft tissue.
MOST_FIELDS = 25
MOST_SLICES = 96

_SOFT_TISSUE_HU = (0.0, 150.0)

# Fewest places with fields in a volume: a stack of five and one more on each side for the filter along z.
FEWEST_FIELDS = 7

# How many series get the texture of each kernel of `SPECTRA`, soft and sharp, beside their own.
_SPECTRUM_SHARES = (0.6, 0.4)


@dataclass(frozen=True)
class TrainingVolume:
    """A low-noise volume, and noise fields that fit its anatomy.

    Args:
        target_hu: Slices `(Z, H, W)`, float16, in HU, sorted by position and evenly spaced.
        pixel_mm: Side of a pixel in mm.
        step_mm: Distance from one slice to the next in mm.
        places: Indices `(n,)` of the slices that the noise fields were made for.
        fields: Noise `(2, n, H, W)`, float16, of standard deviation one in flat tissue: the series' own texture, and
            that of a soft or a sharp kernel; each independent from place to place.
        correlation: Of the series' own noise from one slice to the next.
        noise_std_hu: Noise in HU that the low-noise slices still have.
    """

    target_hu: np.ndarray
    pixel_mm: float
    step_mm: float
    places: np.ndarray
    fields: np.ndarray
    correlation: float
    noise_std_hu: float


def with_most_soft_tissue(volume_hu):
    """The `MOST_SLICES` neighbouring slices that show the most soft tissue; a shorter series whole.

    Args:
        volume_hu: Slices `(Z, H, W)` in HU, sorted by position.

    Returns:
        A view of the slices.
    """
    low, high = _SOFT_TISSUE_HU
    soft = [np.count_nonzero((slice_hu > low) & (slice_hu < high)) for slice_hu in volume_hu]
    sums = np.convolve(soft, np.ones(min(MOST_SLICES, len(soft))), mode="valid")
    start = int(np.argmax(sums))
    return volume_hu[start : start + MOST_SLICES]


def training_volume(target_hu, pixel_mm, step_mm, *, noise, correlation, noise_std_hu, rng, progress=iter):
    """Makes the noise fields of a low-noise volume.

    Args:
        target_hu: Slices `(Z, H, W)` in HU, sorted by position and evenly spaced.
        pixel_mm: Side of a pixel in mm.
        step_mm: Distance from one slice to the next in mm.
        noise: `SeriesNoise` of the series before its noise was removed: its texture.
        correlation: Of that noise from one slice to the next.
        noise_std_hu: Noise in HU that the low-noise slices still have.
        rng: `numpy.random.Generator`.
        progress: Wraps the iteration over the places, such as `tqdm`.

    Returns:
        A `TrainingVolume`.

    Raises:
        ValueError: If the volume is too short for stacks.
    """
    if not np.isfinite(step_mm):
        raise ValueError("Expected slices that are evenly spaced. Received: several at one position")
    apart = max(1, round(FIELD_STEP_MM / step_mm), -(-len(target_hu) // MOST_FIELDS))
    places = np.arange(0, len(target_hu), apart)
    if len(places) < FEWEST_FIELDS:
        raise ValueError(
            f"Expected {FEWEST_FIELDS} slices that are {FIELD_STEP_MM:g} mm or more apart. Received: {len(places)}"
        )
    other = SPECTRA[rng.choice(list(SPECTRA), p=_SPECTRUM_SHARES)].stretched(rng.uniform(0.85, 1.25))
    textures = [noise.spectrum, other]
    fields = np.empty((len(textures), len(places), *target_hu.shape[1:]), np.float16)
    generators = rng.spawn(len(places))

    def fill(n):
        for texture, field, generator in zip(
            textures, fields[:, n], generators[n].spawn(len(textures)), strict=True
        ):
            field[:] = noise_like(target_hu[places[n]], pixel_mm, 1.0, texture, generator)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in progress([pool.submit(fill, n) for n in range(len(places))]):
            done.result()
    return TrainingVolume(
        target_hu.astype(np.float16), pixel_mm, step_mm, places, fields, correlation, noise_std_hu
    )


def save_volume(volume, folder):
    """Writes a volume into a folder of its own, from which `load_volume` maps it into memory.

    Args:
        volume: `TrainingVolume`.
        folder: Where; made if it is not there. What is written last makes it complete.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("target_hu", "fields"):
        with replacing(folder / f"{name}.npy") as part, open(part, "wb") as file:
            np.save(file, getattr(volume, name))
    rest = {name: getattr(volume, name) for name in _NUMBERS}
    with replacing(folder / "numbers.npz") as part, open(part, "wb") as file:
        np.savez(file, places=volume.places, **rest)


def load_volume(folder):
    """Reads what `save_volume` wrote; `None` if there is none, or not all of it.

    Args:
        folder: Where it was written.

    Returns:
        A `TrainingVolume` whose slices and fields stay on disk until they are used.
    """
    folder = Path(folder)
    if not (folder / "numbers.npz").is_file():
        return None
    with np.load(folder / "numbers.npz") as saved:
        numbers = {name: float(saved[name]) for name in _NUMBERS}
        places = saved["places"]
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("target_hu", "fields")}
    return TrainingVolume(places=places, **mapped, **numbers)


_NUMBERS = ("pixel_mm", "step_mm", "correlation", "noise_std_hu")

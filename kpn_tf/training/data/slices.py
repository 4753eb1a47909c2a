"""Normal-dose slices with noise that fits their anatomy: what training pairs are drawn from."""

import collections
import hashlib
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kpn_tf.dose.series_noise import SeriesNoise, noise_like
from kpn_tf.dose.simulation import SPECTRA

# Noise fields of a slice: `_textures`.
FIELDS = 3


@dataclass(frozen=True)
class TrainingSlice:
    """A normal-dose slice and noise that fits its anatomy.

    Args:
        normal_hu: Slice `(H, W)` in HU.
        noise: Noise fields `(n, H, W)`, each of standard deviation one in the flat regions.
        noise_std_hu: Noise in HU that the slice has of its own.
        weight: How often the slice is drawn, relative to others.
    """

    normal_hu: np.ndarray
    noise: np.ndarray
    noise_std_hu: float
    weight: float = 1.0


class SlicesInMemory:
    """A few slices, all of them in memory; `kpn_tf.training.data.store.StoredSlices` is the same for many.

    Args:
        slices: `TrainingSlice`s.
    """

    def __init__(self, slices):
        self._slices = list(slices)

    def __len__(self):
        return len(self._slices)

    def __getitem__(self, index):
        return self._slices[index]

    @property
    def weights(self):
        """Of each slice: float64 `(n,)`."""
        return np.array([one.weight for one in self._slices], float)

    @property
    def smallest_side(self):
        """Fewest rows or columns of a slice, in pixels."""
        return min(min(one.normal_hu.shape) for one in self._slices)

    @property
    def normal_sha256(self):
        """Hash of the normal-dose slices, in hexadecimal."""
        return slices_sha256(one.normal_hu for one in self._slices)


def slices_sha256(slices_hu):
    """Hash of slices in order.

    Args:
        slices_hu: Slices `(H, W)` in HU.

    Returns:
        SHA-256 of their values as little-endian float32, in hexadecimal.
    """
    digest = hashlib.sha256()
    for slice_hu in slices_hu:
        digest.update(np.ascontiguousarray(slice_hu, "<f4").tobytes())
    return digest.hexdigest()


def training_slices(volume_hu, pixel_spacing_mm, noise, rng, *, weight=1.0, progress=iter):
    """Slices of a series with three noise fields each, in the textures a network must know.

    The series' own texture; that of a soft kernel with its frequencies stretched by 0.85 to 1.25, a family
    of kernels; and, by turns, its own again or that of a sharp kernel.

    Args:
        volume_hu: Normal-dose slices `(Z, H, W)` in HU.
        pixel_spacing_mm: Side of a pixel in mm.
        noise: `SeriesNoise` of the series, or a list of one for each slice.
        rng: `numpy.random.Generator`.
        weight: Weight of each slice.
        progress: Wraps the iteration over the slices, such as `tqdm`.

    Returns:
        List of `TrainingSlice`.
    """
    return list(one_by_one(volume_hu, pixel_spacing_mm, noise, rng, weight=weight, progress=progress))


def one_by_one(volume_hu, pixel_spacing_mm, noise, rng, *, weight=1.0, progress=iter):
    """Yields what `training_slices` returns, and holds the noise of no more slices than there are processors."""
    pool = ThreadPoolExecutor(os.cpu_count())
    noises = [noise] * len(volume_hu) if isinstance(noise, SeriesNoise) else noise

    def begun(index):
        draws = zip(_textures(noises[index], index, rng), rng.spawn(FIELDS), strict=True)
        return [pool.submit(noise_like, volume_hu[index], pixel_spacing_mm, 1.0, *draw) for draw in draws]

    try:
        coming = map(begun, range(len(volume_hu)))
        waiting = collections.deque(itertools.islice(coming, os.cpu_count()))
        for slice_hu, own, _ in zip(volume_hu, noises, progress(range(len(volume_hu))), strict=True):
            fields = [field.result() for field in waiting.popleft()]
            waiting.extend(itertools.islice(coming, 1))
            yield TrainingSlice(
                slice_hu.astype("float32"), np.stack(fields).astype("float16"), own.std_hu, weight
            )
    finally:
        # After an interruption nobody wants the fields that are still to come.
        pool.shutdown(cancel_futures=True)


def skip_draws(count, rng):
    """Leaves a generator as if `count` slices of a series had drawn their noise from it."""
    for _ in range(count):
        rng.uniform(size=2)
        rng.spawn(FIELDS)


def _textures(noise, index, rng):
    sharp = SPECTRA["sharp"].stretched(rng.uniform(0.85, 1.25))
    soft = SPECTRA["soft"].stretched(rng.uniform(0.85, 1.25))
    return [noise.spectrum, soft, noise.spectrum if index % 2 else sharp]

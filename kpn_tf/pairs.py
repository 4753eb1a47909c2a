"""Pairs of (low dose, normal dose) patches for training, drawn on the fly from slices and noise fields."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np

from kpn_tf.normal_dose import noise_like
from kpn_tf.simulation import SPECTRA

# A crop with more air than this teaches nothing; another is drawn.
MOST_AIR = 0.8
AIR_BELOW_HU = -900

# Share of patches at the noise their slice has of its own.
OWN_NOISE_SHARE = 0.4


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


def training_slices(volume_hu, pixel_spacing_mm, noise, rng, *, weight=1.0, progress=iter):
    """Slices of a series with three noise fields each, in the textures a network must know.

    The series' own texture; that of a soft kernel with its frequencies stretched by 0.85 to 1.25, a family
    of kernels; and, by turns, its own again or that of a sharp kernel.

    Args:
        volume_hu: Normal-dose slices `(Z, H, W)` in HU.
        pixel_spacing_mm: Side of a pixel in mm.
        noise: `SeriesNoise` of the series.
        rng: `numpy.random.Generator`.
        weight: Weight of each slice.
        progress: Wraps the iteration over the slices, such as `tqdm`.

    Returns:
        List of `TrainingSlice`.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        jobs = [
            [
                pool.submit(noise_like, slice_hu, pixel_spacing_mm, 1.0, texture, child)
                for texture, child in zip(_textures(noise, index, rng), rng.spawn(3), strict=True)
            ]
            for index, slice_hu in enumerate(volume_hu)
        ]
        return [
            TrainingSlice(
                slice_hu.astype("float32"),
                np.stack([field.result() for field in fields]).astype("float16"),
                noise.std_hu,
                weight,
            )
            for slice_hu, fields in zip(volume_hu, progress(jobs), strict=True)
        ]
    finally:
        # After an interruption nobody wants the fields that are still to come.
        pool.shutdown(cancel_futures=True)


def _textures(noise, index, rng):
    sharp = SPECTRA["sharp"].stretched(rng.uniform(0.85, 1.25))
    soft = SPECTRA["soft"].stretched(rng.uniform(0.85, 1.25))
    return [noise.spectrum, soft, noise.spectrum if index % 2 else sharp]


class SimulatedPairs(keras.utils.PyDataset):
    """Batches of (low dose, normal dose) patches for `model.fit` and for the custom loop.

    A patch gets a normal-dose noise `s`: in four of ten patches what its slice already has, else log-uniform
    from there up to `most_noise_hu`; and a low-dose noise that follows from the dose: variance `s^2 / dose`.
    The part of the new noise that belongs to the normal dose is not added to the target as another random
    draw but as its expectation given all the noise added, a fixed share of it: the network that minimises the
    squared error is the same, and it is learnt from fewer patches. Flips and quarter turns complete the patch.

    Batch `i` depends on the seed and `i` alone. Every pass is the same: give all steps of a training as
    `steps`, and call `model.fit(pairs, epochs=e, steps_per_epoch=steps // e)`.

    Args:
        slices: `TrainingSlice`s to draw from.
        batch_size: Patches per batch.
        steps: Number of batches.
        patch: Side of a patch in pixels.
        dose: Low dose as a fraction of the normal dose.
        most_noise_hu: Upper end of the normal-dose noise.
        seed: Integer.

    Raises:
        ValueError: If there is no slice, one is smaller than a patch, or the dose is not between 0 and 1.
    """

    def __init__(self, slices, *, batch_size, steps, patch=96, dose=0.25, most_noise_hu=30.0, seed=0):
        super().__init__()
        if not slices:
            raise ValueError("Expected at least one slice to draw pairs from. Received: none")
        if min(min(s.normal_hu.shape) for s in slices) < patch:
            raise ValueError(f"Expected slices of at least {patch}×{patch} pixels. Received: a smaller one")
        if not 0 < dose < 1:
            raise ValueError(f"Expected a dose between 0 and 1. Received: {dose}")
        self.slices = list(slices)
        self.batch_size = batch_size
        self.steps = steps
        self.patch = patch
        self.dose = dose
        self.most_noise_hu = most_noise_hu
        self.seed = seed
        weights = np.array([s.weight for s in self.slices], float)
        self._probabilities = weights / weights.sum()

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        """Batch `index`.

        Returns:
            `(low, normal)`, both `(batch_size, patch, patch, 1)`, float32, in HU.
        """
        return _batch(self, index)

    def describe(self):
        """What decides the batches, for the record of a run.

        Returns:
            Dict that `json.dumps` takes; `normal_sha256` is a hash of the normal-dose slices.
        """
        return {
            "slices": len(self.slices),
            "normal_sha256": _sha256(source.normal_hu for source in self.slices),
            "batch_size": self.batch_size,
            "patch": self.patch,
            "dose": self.dose,
            "most_noise_hu": self.most_noise_hu,
            "seed": self.seed,
        }

    def _pair(self, rng):
        source = self.slices[rng.choice(len(self.slices), p=self._probabilities)]
        crop = _crop(source.normal_hu, self.patch, rng)
        normal = source.normal_hu[crop]
        noise = source.noise[(rng.integers(len(source.noise)), *crop)].astype("float32")

        own = source.noise_std_hu
        most = own if rng.random() < OWN_NOISE_SHARE else max(own, self.most_noise_hu)
        level = np.exp(rng.uniform(np.log(own), np.log(most)))
        added = level**2 / self.dose - own**2  # variance in HU²
        kept = (level**2 - own**2) / added  # the share of it that a normal dose would have
        noise *= np.sqrt(added) * rng.choice([-1, 1])
        return _turned((normal + noise, normal + np.float32(kept) * noise), rng)


class MeasuredPairs(keras.utils.PyDataset):
    """Batches of patches from slices that exist in both doses, such as those of the NIH protocol.

    Every slice is drawn alike, and turned and flipped. Batch `i` depends on the seed and `i` alone.

    Args:
        pairs: Objects with `low_hu` and `normal_hu`, slices `(H, W)` in HU.
        batch_size: Patches per batch.
        steps: Number of batches.
        patch: Side of a patch in pixels.
        seed: Integer.

    Raises:
        ValueError: If there is no pair, or one is smaller than a patch.
    """

    def __init__(self, pairs, *, batch_size, steps, patch=64, seed=0):
        super().__init__()
        self.pairs = list(pairs)
        if not self.pairs or min(min(pair.normal_hu.shape) for pair in self.pairs) < patch:
            raise ValueError(
                f"Expected pairs of slices of at least {patch}×{patch} pixels. "
                f"Received: {'a smaller one' if self.pairs else 'none'}"
            )
        self.batch_size = batch_size
        self.steps = steps
        self.patch = patch
        self.seed = seed

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        """Batch `index`: `(low, normal)` as of `SimulatedPairs`."""
        return _batch(self, index)

    def describe(self):
        """What decides the batches, for the record of a run: as `SimulatedPairs.describe`."""
        return {
            "slices": len(self.pairs),
            "normal_sha256": _sha256(pair.normal_hu for pair in self.pairs),
            "low_sha256": _sha256(pair.low_hu for pair in self.pairs),
            "batch_size": self.batch_size,
            "patch": self.patch,
            "seed": self.seed,
        }

    def _pair(self, rng):
        source = self.pairs[rng.integers(len(self.pairs))]
        crop = _crop(source.normal_hu, self.patch, rng)
        return _turned((source.low_hu[crop], source.normal_hu[crop]), rng)


def _batch(pairs, index):
    rng = np.random.default_rng([pairs.seed, index])
    drawn = [pairs._pair(rng) for _ in range(pairs.batch_size)]
    return tuple(np.stack(images)[..., None] for images in zip(*drawn, strict=True))


def _crop(normal_hu, patch, rng):
    """A patch somewhere in a slice, drawn up to ten times while it is mostly air: two slices."""
    for _ in range(10):
        row, column = (rng.integers(0, n - patch + 1) for n in normal_hu.shape)
        crop = slice(row, row + patch), slice(column, column + patch)
        if np.mean(normal_hu[crop] < AIR_BELOW_HU) <= MOST_AIR:
            break
    return crop


def _turned(images, rng):
    """Patches with the same flip and quarter turn, float32."""
    turns, flip = rng.integers(4), rng.integers(2)
    turned = [np.rot90(image, turns) for image in images]
    return [(image[:, ::-1] if flip else image).astype("float32") for image in turned]


def _sha256(slices_hu):
    digest = hashlib.sha256()
    for slice_hu in slices_hu:
        digest.update(np.ascontiguousarray(slice_hu, "<f4").tobytes())
    return digest.hexdigest()

"""Pairs of (low dose, normal dose) patches for training, drawn on the fly from slices and noise fields."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import ArrayLike

from kpn_tf.dose.series_noise import SeriesNoise, noise_along_z
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.training.data.slices import SlicesInMemory, TrainingSlice, slices_sha256, training_slices

__all__ = ["Ahead", "MeasuredPairs", "SimulatedPairs", "TrainingSlice", "training_slices"]

# A crop with more air than this teaches nothing; another is drawn.
MOST_AIR = 0.8
AIR_BELOW_HU = -900

# Share of patches at the noise their slice has of its own.
OWN_NOISE_SHARE = 0.4


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
        slices: `TrainingSlice`s to draw from, or `StoredSlices` for more than memory holds.
        batch_size: Patches per batch.
        steps: Number of batches.
        patch: Side of a patch in pixels.
        dose: Low dose as a fraction of the normal dose.
        most_noise_hu: Upper end of the normal-dose noise.
        seed: Integer.

    Raises:
        ValueError: If there is no slice, one is smaller than a patch, or the dose is not between 0 and 1.
    """

    def __init__(
        self,
        slices: Any,
        *,
        batch_size: int,
        steps: int,
        patch: int = 96,
        dose: float = 0.25,
        most_noise_hu: float = 30.0,
        seed: int = 0,
    ):
        super().__init__()
        slices = SlicesInMemory(slices) if isinstance(slices, (list, tuple)) else slices
        if not len(slices):
            raise ValueError("Expected at least one slice to draw pairs from. Received: none")
        if slices.smallest_side < patch:
            raise ValueError(f"Expected slices of at least {patch}×{patch} pixels. Received: a smaller one")
        if not 0 < dose < 1:
            raise ValueError(f"Expected a dose between 0 and 1. Received: {dose}")
        self.slices = slices
        self.batch_size = batch_size
        self.steps = steps
        self.patch = patch
        self.dose = dose
        self.most_noise_hu = most_noise_hu
        self.seed = seed
        self._up_to = _shares_up_to(slices.weights)

    @classmethod
    def from_volume(
        cls,
        volume_hu: ArrayLike,
        pixel_spacing_mm: float,
        *,
        noise: SeriesNoise | list[SeriesNoise] | float | None = None,
        seed: int = 0,
        **arguments: Any,
    ) -> "SimulatedPairs":
        """Pairs from the slices of one series, an array.

        Args:
            volume_hu: Normal-dose slices `(Z, H, W)` in HU.
            pixel_spacing_mm: Side of a pixel in mm.
            noise: Noise that the series has of its own: `None` to measure it, a standard deviation in HU for noise of
                a soft kernel, or a `kpn_tf.dose.series_noise.SeriesNoise`, or a list of one for each slice.
            seed: Integer; of the noise fields and of the patches.
            arguments: The others of the class, such as `batch_size` and `steps`.

        Returns:
            `SimulatedPairs`.

        Raises:
            ValueError: If the volume is no finite `(Z, H, W)`, or its noise cannot be measured.
        """
        volume_hu = np.asarray(volume_hu, "float32")
        if volume_hu.ndim != 3 or not np.isfinite(volume_hu).all():
            raise ValueError(
                f"Expected finite slices of shape (Z, H, W) in HU. Received: shape {volume_hu.shape}"
            )
        if noise is None:
            noise = noise_along_z(volume_hu, pixel_spacing_mm)
        elif not isinstance(noise, (SeriesNoise, list)):
            noise = SeriesNoise(float(noise), SPECTRA["soft"])
        slices = training_slices(volume_hu, pixel_spacing_mm, noise, np.random.default_rng(seed))
        return cls(slices, seed=seed, **arguments)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`.

        Returns:
            `(low, normal)`, both `(batch_size, patch, patch, 1)`, float32, in HU.
        """
        return _batch(self, index)

    def describe(self) -> dict[str, Any]:
        """What decides the batches, for the record of a run.

        Returns:
            Dict that `json.dumps` takes; `normal_sha256` is a hash of the normal-dose slices.
        """
        return {
            "slices": len(self.slices),
            "normal_sha256": self.slices.normal_sha256,
            "batch_size": self.batch_size,
            "patch": self.patch,
            "dose": self.dose,
            "most_noise_hu": self.most_noise_hu,
            "seed": self.seed,
        }

    def _pair(self, rng):
        # As `rng.choice` with probabilities does, which sums them up anew for every patch.
        source = self.slices[int(self._up_to.searchsorted(rng.random(), side="right"))]
        crop, normal = _crop(source.normal_hu, self.patch, rng)
        noise = source.noise[rng.integers(len(source.noise))][crop].astype("float32")

        own = source.noise_std_hu
        most = own if rng.random() < OWN_NOISE_SHARE else max(own, self.most_noise_hu)
        level = np.exp(rng.uniform(np.log(own), np.log(most)))
        added = level**2 / self.dose - own**2  # variance in HU²
        kept = (level**2 - own**2) / added  # the share of it that a normal dose would have
        noise *= np.sqrt(added) * rng.choice([-1, 1])
        return _turned((normal + noise, normal + np.float32(kept) * noise), rng)


class _Measured(NamedTuple):
    low_hu: np.ndarray
    normal_hu: np.ndarray


def _measured(item):
    """The pairs of slices `(H, W)` that an item of an iterable holds."""
    if hasattr(item, "low_hu") and hasattr(item, "normal_hu"):
        yield item
        return
    low_hu, normal_hu = (np.asarray(slices_hu, "float32") for slices_hu in item)
    if low_hu.shape != normal_hu.shape or low_hu.ndim not in (2, 3, 4):
        raise ValueError(
            "Expected pairs (low, normal) in HU of one shape: (H, W), (H, W, 1) or (B, H, W, 1). "
            f"Received: {low_hu.shape} and {normal_hu.shape}"
        )
    if low_hu.ndim == 2:
        low_hu, normal_hu = low_hu[..., None], normal_hu[..., None]
    height, width, _ = low_hu.shape[-3:]
    yield from map(_Measured, low_hu.reshape(-1, height, width), normal_hu.reshape(-1, height, width))


class MeasuredPairs(keras.utils.PyDataset):
    """Batches of patches from slices that exist in both doses, such as those of the NIH protocol.

    Every slice is drawn alike, and turned and flipped. Batch `i` depends on the seed and `i` alone.

    Args:
        pairs: Any iterable that ends, such as a list or a `tf.data.Dataset`: of objects with `low_hu` and `normal_hu`,
            slices `(H, W)` in HU, or of pairs `(low, normal)` of arrays or tensors of shape `(H, W)`, `(H, W, 1)` or
            `(B, H, W, 1)`.
        batch_size: Patches per batch.
        steps: Number of batches.
        patch: Side of a patch in pixels.
        seed: Integer.

    Raises:
        ValueError: If there is no pair, one is smaller than a patch, or its two slices differ in shape.
    """

    def __init__(self, pairs: Any, *, batch_size: int, steps: int, patch: int = 64, seed: int = 0):
        super().__init__()
        self.pairs = [pair for item in pairs for pair in _measured(item)]
        if not self.pairs or min(min(pair.normal_hu.shape) for pair in self.pairs) < patch:
            raise ValueError(
                f"Expected pairs of slices of at least {patch}×{patch} pixels. "
                f"Received: {'a smaller one' if self.pairs else 'none'}"
            )
        self.batch_size = batch_size
        self.steps = steps
        self.patch = patch
        self.seed = seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`: `(low, normal)` as of `SimulatedPairs`."""
        return _batch(self, index)

    def describe(self) -> dict[str, Any]:
        """What decides the batches, for the record of a run: as `SimulatedPairs.describe`."""
        return {
            "slices": len(self.pairs),
            "normal_sha256": slices_sha256(pair.normal_hu for pair in self.pairs),
            "low_sha256": slices_sha256(pair.low_hu for pair in self.pairs),
            "batch_size": self.batch_size,
            "patch": self.patch,
            "seed": self.seed,
        }

    def _pair(self, rng):
        source = self.pairs[rng.integers(len(self.pairs))]
        crop, normal = _crop(source.normal_hu, self.patch, rng)
        return _turned((source.low_hu[crop], normal), rng)


class Ahead:
    """Pairs whose next batch is made in a thread while the one before is trained on, as `model.fit` does by itself.

    Args:
        pairs: `SimulatedPairs`, or anything whose item `i` is the batch of step `i`.
    """

    def __init__(self, pairs: Any):
        self._pairs = pairs
        self._thread = ThreadPoolExecutor(1)
        self._index: int | None = None
        self._coming: Any = None

    def __getitem__(self, index: int) -> Any:
        """Batch `index`."""
        batch = self._coming.result() if index == self._index else self._pairs[index]
        if index + 1 < len(self._pairs):
            self._index = index + 1
            self._coming = self._thread.submit(self._pairs.__getitem__, index + 1)
        return batch

    def describe(self):
        """What decides the batches: of these pairs, however they are made."""
        return self._pairs.describe()


def _shares_up_to(weights):
    """Shares of the draws that fall to slices up to each, `(n,)`: as `rng.choice` computes them, to the last bit."""
    up_to = weights / weights.sum()
    np.cumsum(up_to, out=up_to)
    up_to /= up_to[-1]
    return up_to


def _batch(pairs, index):
    rng = np.random.default_rng([pairs.seed, index])
    drawn = [pairs._pair(rng) for _ in range(pairs.batch_size)]
    return tuple(np.stack(images)[..., None] for images in zip(*drawn, strict=True))


def _crop(normal_hu, patch, rng):
    """A patch somewhere in a slice, drawn up to ten times while it is mostly air: two slices, and the patch."""
    for _ in range(10):
        row, column = (rng.integers(0, n - patch + 1) for n in normal_hu.shape)
        crop = slice(row, row + patch), slice(column, column + patch)
        normal = normal_hu[crop]
        if np.mean(normal < AIR_BELOW_HU) <= MOST_AIR:
            break
    return crop, normal


def _turned(images, rng):
    """Patches with the same flip and quarter turn, float32."""
    turns, flip = rng.integers(4), rng.integers(2)
    turned = [np.rot90(image, turns) for image in images]
    return [(image[:, ::-1] if flip else image).astype("float32") for image in turned]

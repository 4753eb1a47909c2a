"""Pairs of (low-dose stack, normal-dose slice) for training, drawn on the fly from low-noise volumes."""

import hashlib
from dataclasses import asdict

import keras
import numpy as np

from kpn_tf.dose.along_z import MOST_CORRELATION, correlated_along_z
from kpn_tf.training.data.drawn_lesions import LesionRange, draw_lesions
from kpn_tf.training.pairs import AIR_BELOW_HU

# Stacks that are resampled along z have slices so far apart: most, since in a series' own slices each has noise of its
# own left, which the network would take for anatomy that neighbours do not share.
RESAMPLED_STEP_MM = (0.6, 2.5)
RESAMPLED_SHARE = 0.85

# Standard deviation of the Gaussian that volumes are resampled with: of the slices' distance, and at least in mm.
_SMOOTH_STEPS, _SMOOTH_MM = 0.6, 0.8

# What a pixel of a drawn lesion counts beyond others, and from what change in HU on.
LESION_WEIGHT, _WEIGHED_HU = 9.0, 4.0

# A crop with more air than this is drawn again: faint lesions lie in tissue.
MOST_AIR = 0.5

# The noise a stack can have: the series' own texture, or that of another kernel.
TEXTURE_SHARES = (0.6, 0.4)
MOST_DRAWN_CORRELATION = 0.6

# Of the stacks: complete ones, ones at an end of the series, single slices, and ones with gaps.
WHOLE_SHARE, END_SHARE, SINGLE_SHARE = 0.65, 0.12, 0.18


class VolumePairs(keras.utils.PyDataset):
    """Batches of `((stack, distances), normal, weights)` for `model.fit` and for the custom loop.

    A stack of neighbouring slices gets faint lesions, in `lesion_share` of the patches, and the noise of a low dose,
    correlated along z: the series' own texture with its own correlation, otherwise with any from 0 to 0.6.
    The target is the middle slice with the part of that noise that a normal dose has: as of `SimulatedPairs`.
    A neighbour that is not there (the ends of a series, single slices, gaps) is the middle slice at distance 0.
    Of ten stacks eight or nine are resampled along z to thin slices, 0.6 to 2.5 mm apart.
    A pixel of a lesion counts ten times as much as others: what is rare and faint costs little to erase otherwise.
    Flips, quarter turns and the order of the slices complete the patch. Batch `i` depends on the seed and `i` alone.

    Args:
        volumes: `kpn_tf.training.data.volumes.TrainingVolume`s.
        slices: Slices of a stack, odd.
        batch_size: Patches per batch.
        steps: Number of batches.
        patch: Side of a patch in pixels.
        dose: Low dose as a fraction of the normal dose.
        noise_hu: Range of the normal-dose noise in HU, on a logarithmic scale.
        lesion_share: Share of the patches with lesions.
        lesions: `LesionRange`.
        seed: Integer.

    Raises:
        ValueError: If there is no volume, one is smaller than a patch, or a number is out of range.
    """

    def __init__(
        self,
        volumes,
        *,
        slices,
        batch_size,
        steps,
        patch=96,
        dose=0.25,
        noise_hu=(5.0, 32.0),
        lesion_share=0.7,
        lesions=None,
        seed=0,
    ):
        super().__init__()
        if not volumes:
            raise ValueError("Expected at least one volume to draw stacks from. Received: none")
        if min(min(volume.target_hu.shape[1:]) for volume in volumes) < patch:
            raise ValueError(f"Expected slices of at least {patch}×{patch} pixels. Received: a smaller one")
        if slices < 1 or slices % 2 == 0:
            raise ValueError(f"Expected an odd number of slices. Received: {slices}")
        if not 0 < dose < 1:
            raise ValueError(f"Expected a dose between 0 and 1. Received: {dose}")
        self.volumes = list(volumes)
        self.slices = slices
        self.batch_size = batch_size
        self.steps = steps
        self.patch = patch
        self.dose = dose
        self.noise_hu = tuple(noise_hu)
        self.lesion_share = lesion_share
        self.lesions = lesions or LesionRange()
        self.seed = seed
        self._weights = _weights(self.volumes)

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        """Batch `index`.

        Returns:
            `((stacks, distances), normal, weights)`: `(B, patch, patch, S)` in HU, `(B, S)` in mm,
            `(B, patch, patch, 1)` in HU, and as many weights of mean one; all float32.
        """
        rng = np.random.default_rng([self.seed, index])
        drawn = [self._pair(rng) for _ in range(self.batch_size)]
        stacks, distances, normals, weights = (np.stack(values) for values in zip(*drawn, strict=True))
        return (stacks, distances), normals, weights / weights.mean()

    def describe(self):
        """What decides the batches, for the record of a run; `target_sha256` is a hash of the volumes."""
        digest = hashlib.sha256()
        for volume in self.volumes:
            digest.update(np.ascontiguousarray(volume.target_hu).tobytes())
        return {
            "volumes": len(self.volumes),
            "target_sha256": digest.hexdigest(),
            "slices": self.slices,
            "batch_size": self.batch_size,
            "patch": self.patch,
            "dose": self.dose,
            "noise_hu": list(self.noise_hu),
            "lesion_share": self.lesion_share,
            "lesions": asdict(self.lesions),
            "seed": self.seed,
        }

    def _pair(self, rng):
        volume = self.volumes[rng.choice(len(self.volumes), p=self._weights)]
        half = self.slices // 2
        resampled = rng.random() < RESAMPLED_SHARE
        step_mm = np.exp(rng.uniform(*np.log(RESAMPLED_STEP_MM))) if resampled else volume.step_mm
        offsets_mm = np.arange(-half, half + 1) * step_mm
        last_mm = (len(volume.target_hu) - 1) * volume.step_mm
        reach_mm = min(half * step_mm, last_mm / 2)
        middle_mm = rng.uniform(reach_mm, last_mm - reach_mm)
        if not resampled:
            middle_mm = round(middle_mm / step_mm) * step_mm
        crop = self._crop(volume.target_hu[round(middle_mm / volume.step_mm)], rng)
        target_hu = _sampled(volume, middle_mm + offsets_mm, crop, smooth=resampled)
        weight = np.ones_like(target_hu[half])
        if rng.random() < self.lesion_share:
            without_hu = target_hu
            target_hu = draw_lesions(target_hu, offsets_mm, step_mm, volume.pixel_mm, self.lesions, rng)
            change_hu = np.abs(target_hu[half] - without_hu[half])
            weight += LESION_WEIGHT * np.minimum(1, change_hu / _WEIGHED_HU)
        noise = self._noise(volume, middle_mm, step_mm, crop, rng)
        low_std_hu = np.exp(rng.uniform(*np.log(self.noise_hu))) / np.sqrt(self.dose)
        noise *= np.float32(np.sqrt(max(low_std_hu**2 - volume.noise_std_hu**2, 0.0)))
        low_hu = target_hu + noise
        normal_hu = target_hu[half] + np.float32(self.dose) * noise[half]
        distances_mm = np.abs(offsets_mm).astype(np.float32)
        if rng.random() < 0.5:
            low_hu = low_hu[::-1]
        missing = self._missing(rng)
        low_hu = np.where(missing[:, None, None], low_hu[half], low_hu)
        distances_mm = np.where(missing, np.float32(0), distances_mm)
        turns, flip = rng.integers(4), rng.integers(2)
        turned = [np.rot90(image, turns, axes=(-2, -1)) for image in (low_hu, normal_hu[None], weight[None])]
        low_hu, normal_hu, weight = [
            np.moveaxis(image[..., ::-1] if flip else image, 0, -1) for image in turned
        ]
        return low_hu, distances_mm, normal_hu, weight

    def _crop(self, slice_hu, rng):
        for _ in range(10):
            row, column = (rng.integers(0, n - self.patch + 1) for n in slice_hu.shape)
            crop = slice(row, row + self.patch), slice(column, column + self.patch)
            if np.mean(slice_hu[crop] < AIR_BELOW_HU) <= MOST_AIR:
                break
        return crop

    def _noise(self, volume, middle_mm, step_mm, crop, rng):
        """Noise `(S, patch, patch)` of strength one: fields from near the middle, filtered along z."""
        count = self.slices + 2
        texture = rng.choice(len(TEXTURE_SHARES), p=TEXTURE_SHARES)
        correlation = rng.uniform(0, MOST_DRAWN_CORRELATION)
        if texture == 0 and abs(np.log(step_mm / volume.step_mm)) < np.log(1.5):
            correlation = min(volume.correlation, MOST_CORRELATION)
        nearest = int(np.argmin(np.abs(volume.places * volume.step_mm - middle_mm)))
        start = int(np.clip(nearest - rng.integers(count), 0, len(volume.places) - count))
        signs = rng.choice(np.float32([-1, 1]), (count, 1, 1))
        chosen = [volume.fields[(texture, n, *crop)] for n in start + rng.permutation(count)]
        return correlated_along_z(np.stack(chosen).astype(np.float32) * signs, correlation)

    def _missing(self, rng):
        """Which slices of a stack are not there: `(S,)` bool."""
        half = self.slices // 2
        missing = np.zeros(self.slices, bool)
        kind = rng.random()
        if kind < WHOLE_SHARE or half == 0:
            return missing
        if kind < WHOLE_SHARE + END_SHARE:
            missing[: rng.integers(1, half + 1)] = True
            return missing[::-1] if rng.random() < 0.5 else missing
        missing[:] = kind < WHOLE_SHARE + END_SHARE + SINGLE_SHARE or rng.random(self.slices) < 0.4
        missing[half] = False
        return missing


def _sampled(volume, positions_mm, crop, smooth):
    """Patches `(S, patch, patch)` of a volume at positions along z: slices of its own, or Gaussian means of them."""
    slices = np.arange(len(volume.target_hu)) * volume.step_mm
    if not smooth:
        nearest = np.abs(slices - np.asarray(positions_mm)[:, None]).argmin(axis=1)
        return np.stack([volume.target_hu[(z, *crop)] for z in nearest]).astype(np.float32)
    sigma_mm = max(_SMOOTH_MM, _SMOOTH_STEPS * volume.step_mm)
    weights = np.exp(-0.5 * ((slices - np.asarray(positions_mm)[:, None]) / sigma_mm) ** 2)  # (S, Z)
    used = np.flatnonzero(weights.max(axis=0) > 1e-3)
    near = slice(used[0], used[-1] + 1)
    weights = weights[:, near] / weights[:, near].sum(axis=1, keepdims=True)
    return np.tensordot(
        weights.astype(np.float32), volume.target_hu[(near, *crop)].astype(np.float32), axes=1
    )


def _weights(volumes):
    """A series must not outweigh another by its number of slices alone."""
    weights = np.sqrt([len(volume.places) for volume in volumes])
    return weights / weights.sum()

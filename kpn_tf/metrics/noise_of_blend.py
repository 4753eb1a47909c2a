"""The noise that a share of a correction leaves: measured in the slices before and after, for any share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from kpn_tf.metrics.noise import (
    boxes_noise_std_hu,
    flat_regions,
    mean_frequency,
    noise_power_spectrum,
)

# Strengths that are tried first, and how often the step between two of them is halved then.
_STEPS, _HALVINGS = 10, 12


class NoiseOfBlend:
    """Noise of `x + strength * (denoised - x)` in the flattest soft tissue of slices, as every command measures it.

    Keeps the flat boxes alone. Noise before and after is correlated, so that the noise of a blend is not the blend of
    the noises: it is measured in blended boxes.
    """

    def __init__(self) -> None:
        self._boxes: list[tuple[np.ndarray, np.ndarray]] = []  # per slice: (n, h, w) before and after
        self._spacing_mm: tuple[float, ...] = ()

    def add(
        self,
        before_hu: ArrayLike,
        after_hu: ArrayLike,
        pixel_spacing_mm: Sequence[float],
        padding: ArrayLike | None = None,
    ) -> None:
        """Takes a slice.

        Args:
            before_hu: `(H, W)` in HU; flat boxes are found in it.
            after_hu: `(H, W)` in HU, at strength 1.
            pixel_spacing_mm: `(rows, columns)` distance between pixels in mm.
            padding: `(H, W)` bool, true outside the field of view, or `None`.
        """
        regions = flat_regions(before_hu, pixel_spacing_mm, padding)
        if regions:
            before, after = (np.asarray(one, np.float64) for one in (before_hu, after_hu))
            self._boxes.append(
                (np.stack([before[r] for r in regions]), np.stack([after[r] for r in regions]))
            )
            self._spacing_mm = self._spacing_mm or tuple(pixel_spacing_mm)

    @property
    def measured(self) -> int:
        """How many of the slices had flat soft tissue."""
        return len(self._boxes)

    def noise_hu(self, strength: float) -> float:
        """Mean over the slices of the noise SD in HU; NaN without flat soft tissue."""
        noises = [boxes_noise_std_hu(blend) for blend in self._blends(strength)]
        return float(np.mean(noises)) if noises else float("nan")

    def mean_frequency_per_mm(self, strength: float) -> float:
        """Mean frequency of the noise power spectrum in 1/mm: its grain; NaN without flat soft tissue."""
        blends = [blend for blend in self._blends(strength) if blend.shape[1:] == self._boxes[0][0].shape[1:]]
        if not blends:
            return float("nan")
        return mean_frequency(*noise_power_spectrum(np.concatenate(blends), self._spacing_mm))

    def strength_for(self, noise_hu: float) -> float:
        """The share of the correction that leaves a noise, in steps of 0.001.

        Args:
            noise_hu: In HU.

        Returns:
            The smallest that leaves no more; 0 where the slices have less noise before; where more is left by all, that
            which leaves least, usually 1.

        Raises:
            ValueError: If no slice had flat soft tissue.
        """
        if not self._boxes:
            raise ValueError("Expected flat soft tissue (15 mm boxes) to measure noise in. Received: none")
        # A denoiser that blurs edges into flat boxes leaves the least noise before its full strength.
        grid = np.linspace(0.0, 1.0, _STEPS + 1)
        left_hu = np.array([self.noise_hu(strength) for strength in grid])
        enough = np.flatnonzero(left_hu <= noise_hu)
        if not enough.size:
            return float(grid[left_hu.argmin()])
        if enough[0] == 0:
            return 0.0
        low, high = grid[enough[0] - 1 : enough[0] + 1]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.noise_hu(middle) > noise_hu else (low, middle)
        return round(float(high), 3)

    def _blends(self, strength):
        return [before + strength * (after - before) for before, after in self._boxes]

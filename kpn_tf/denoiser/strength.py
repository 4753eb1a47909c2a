"""Strength: what share of a correction is applied, of any denoiser."""

import numpy as np


def blended(slice_hu, denoised_hu, strength):
    """A slice with a share of its correction: `x + strength * (denoised - x)`.

    Args:
        slice_hu: `(H, W)` in HU, before.
        denoised_hu: `(H, W)` in HU, after, at strength 1.
        strength: 0 (the slice itself) to 1.

    Returns:
        `(H, W)` float32 in HU, a new array.

    Example:

    >>> blended(np.float32([[40.0, 60.0]]), np.float32([[50.0, 50.0]]), 0.5).tolist()
    [[45.0, 55.0]]
    """
    if strength == 1.0:
        return np.array(denoised_hu, np.float32)
    mixed_hu = np.subtract(denoised_hu, slice_hu, dtype=np.float32)
    mixed_hu *= np.float32(strength)
    mixed_hu += slice_hu
    return mixed_hu


class AtStrength:
    """A denoiser of which a share of the correction is applied.

    Args:
        denoiser: Callable `(H, W)` HU -> `(H, W)` HU.
        strength: 0 to 1.
    """

    def __init__(self, denoiser, strength):
        self._denoiser, self._strength = denoiser, strength
        self.slices = getattr(denoiser, "slices", 1)

    def __call__(self, slice_hu, **among):
        return blended(slice_hu, self._denoiser(slice_hu, **among), self._strength)


class Remembering:
    """A denoiser that knows its last answer: several strengths of it cost one run for each slice.

    Args:
        denoiser: Callable `(H, W)` HU -> `(H, W)` HU, which gives the same answer to the same slices.
    """

    def __init__(self, denoiser):
        self._denoiser, self._asked, self._answer = denoiser, None, None
        self.slices = getattr(denoiser, "slices", 1)

    def __call__(self, slice_hu, *, neighbours=()):
        asked = [slice_hu, *(one and one.slice_hu for one in neighbours)]
        if self._asked is None or not _same(asked, self._asked):
            among = {"neighbours": neighbours} if self.slices > 1 else {}
            self._answer = self._denoiser(slice_hu, **among)
            self._asked = [None if one is None else np.array(one) for one in asked]
        return self._answer


def _same(some, others):
    return len(some) == len(others) and all(
        a is b is None or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in zip(some, others, strict=True)
    )

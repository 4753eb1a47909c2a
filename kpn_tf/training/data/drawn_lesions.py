"""Faint lesions drawn into low-noise slices, so that a network learns that there are such."""

from dataclasses import dataclass

import numpy as np

# What a lesion may lie in: from blood and water to contrast-enhanced liver.
_SOFT_TISSUE_HU = (-20.0, 180.0)
_TISSUE_MARGIN_HU = 20.0

# A slice of some thickness is the mean over so many positions in it.
_POSITIONS = 3


@dataclass(frozen=True)
class LesionRange:
    """What lesions are drawn: each number uniformly in its range, diameters and contrasts on a logarithmic scale.

    Args:
        diameter_mm: Mean of the three axes.
        contrast_hu: Without its sign, which is drawn too.
        rim_mm: Over which a lesion fades into what is around it.
        most: Largest number in a stack.
        vessel_share: Share of what is drawn that is a vessel instead, 16 to 50 mm long and flat in the plane: so that
            what lies in one slice alone is met too.
        vessel_diameter_mm: Of vessels.
        vessel_contrast_hu: Of vessels and plates, on a logarithmic scale.
        plate_share: Share that is a plate, about as thick as the slice that it lies in.
        plate_mm: Of plates in the plane: both axes, on a logarithmic scale.
    """

    diameter_mm: tuple[float, float] = (3.0, 18.0)
    contrast_hu: tuple[float, float] = (6.0, 40.0)
    rim_mm: tuple[float, float] = (0.4, 1.6)
    most: int = 10
    vessel_share: float = 0.15
    vessel_diameter_mm: tuple[float, float] = (1.0, 4.0)
    vessel_contrast_hu: tuple[float, float] = (20.0, 120.0)
    plate_share: float = 0.1
    plate_mm: tuple[float, float] = (3.0, 40.0)


def draw_lesions(stack_hu, offsets_mm, thickness_mm, pixel_mm, lesions, rng):
    """Draws one to `lesions.most` ellipsoids into the soft tissue of a stack.

    Args:
        stack_hu: Slices `(S, H, W)` in HU.
        offsets_mm: `(S,)`: where each slice lies along z.
        thickness_mm: Of the slices.
        pixel_mm: Side of a pixel in mm.
        lesions: `LesionRange`.
        rng: `numpy.random.Generator`.

    Returns:
        New `(S, H, W)` in HU; without soft tissue, the slices as they were.
    """
    drawn_hu = np.array(stack_hu, np.float32)
    middle_hu = stack_hu[len(stack_hu) // 2]
    soft = np.argwhere((middle_hu > _SOFT_TISSUE_HU[0]) & (middle_hu < _SOFT_TISSUE_HU[1]))
    if len(soft) == 0:
        return drawn_hu
    rows, columns = (np.arange(n) for n in middle_hu.shape)
    inside = (np.arange(_POSITIONS) + 0.5) / _POSITIONS - 0.5
    heights_mm = np.asarray(offsets_mm)[:, None] + inside * thickness_mm  # (S, positions)
    # Where the tissue ends, so does the lesion.
    low, high = _SOFT_TISSUE_HU
    tissue = np.clip((np.minimum(stack_hu - low, high - stack_hu)) / _TISSUE_MARGIN_HU + 1, 0, 1)
    for _ in range(rng.integers(1, lesions.most + 1)):
        row, column = soft[rng.integers(len(soft))]
        kind = rng.random()
        vessel = kind < lesions.vessel_share
        plate = not vessel and kind < lesions.vessel_share + lesions.plate_share
        radius_mm = _logarithmic(lesions.vessel_diameter_mm if vessel else lesions.diameter_mm, rng) / 2
        if vessel:
            axes_mm = np.array([radius_mm, rng.uniform(8.0, 25.0), radius_mm])
        elif plate:
            radius_mm = rng.uniform(0.4, 0.6) * thickness_mm
            axes_mm = np.array([radius_mm, *(_logarithmic(lesions.plate_mm, rng) / 2 for _ in range(2))])
        else:
            stretch = np.exp(rng.uniform(-0.3, 0.3, 3))
            axes_mm = radius_mm * stretch / np.cbrt(stretch.prod())  # along z, and both in the plane
        height_mm = rng.uniform(-0.8, 0.8) * axes_mm[0]
        angle = rng.uniform(0, np.pi)
        y_mm, x_mm = (rows - row)[:, None] * pixel_mm, (columns - column) * pixel_mm
        u = (np.cos(angle) * x_mm + np.sin(angle) * y_mm) / axes_mm[1]
        v = (np.cos(angle) * y_mm - np.sin(angle) * x_mm) / axes_mm[2]
        w = (heights_mm - height_mm) / axes_mm[0]
        distance = np.sqrt((u**2 + v**2) + (w**2)[:, :, None, None])  # (S, positions, H, W); 1 on the surface
        # The rim of what is thin is no wider than it: it would not lie in its slice.
        rim_mm = min(rng.uniform(*lesions.rim_mm), 0.5 * radius_mm if vessel or plate else np.inf)
        share = 1 / (1 + np.exp(np.clip((distance - 1) * (2 * radius_mm / rim_mm), -30, 30)))
        contrasts_hu = lesions.vessel_contrast_hu if vessel or plate else lesions.contrast_hu
        contrast_hu = _logarithmic(contrasts_hu, rng) * rng.choice([-1, 1])
        drawn_hu += np.float32(contrast_hu) * (share.mean(axis=1) * tissue).astype(np.float32)
    return drawn_hu


def _logarithmic(limits, rng):
    return np.exp(rng.uniform(*np.log(limits)))

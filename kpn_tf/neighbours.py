"""Which slices of a series a slice is denoised with."""

from typing import NamedTuple

import numpy as np

# Further away a slice shows other anatomy.
MOST_DISTANCE_MM = 20.0

# A step so many times the usual one is a gap: a slice is missing, and what lies behind it is no neighbour.
_GAP = 1.5


class Neighbour(NamedTuple):
    """A slice beside the one that is denoised.

    Args:
        slice_hu: `(H, W)` in HU.
        distance_mm: From the slice that is denoised, above 0.
        padding: `(H, W)` bool, true outside the field of view, or `None`.
    """

    slice_hu: np.ndarray
    distance_mm: float
    padding: np.ndarray | None = None


def neighbours_of(index, positions_mm, slices):
    """Finds the neighbours of a slice in its series.

    A neighbour is so many slices before or after it. There is none beyond the ends of the series, behind a gap, further
    away than 20 mm, or where slices share a position (phases of one place): these show another time.

    Args:
        index: Of the slice.
        positions_mm: Of all slices of one geometry along their normal, sorted.
        slices: Slices of a stack, odd.

    Returns:
        List of `slices - 1` entries, by position: `(index, distance_mm)`, or `None` where there is no neighbour.

    Example:

    >>> neighbours_of(1, [0.0, 1.0, 2.0, 3.0, 9.0], 5)
    [None, (0, 1.0), (2, 1.0), (3, 2.0)]
    """
    steps_mm = np.diff(positions_mm)
    found = []
    for side in (-1, 1):
        beside = []
        for count in range(1, slices // 2 + 1):
            other = index + side * count
            between = steps_mm[min(index, other) : max(index, other)]
            known = 0 <= other < len(positions_mm) and np.all(between > 0)
            if known and np.all(between <= _GAP * np.median(steps_mm)) and between.sum() <= MOST_DISTANCE_MM:
                beside.append((other, float(between.sum())))
            else:
                beside.append(None)
        found += beside if side > 0 else beside[::-1]
    return found


def stacked(slice_hu, neighbours, slices):
    """A slice and its neighbours as a network takes them: for a neighbour that is not there, the slice itself at 0.

    Args:
        slice_hu: `(H, W)` in HU.
        neighbours: `Neighbour`s and `None`s by position, `slices - 1` of them; empty for a single slice.
        slices: Slices of a stack, odd.

    Returns:
        `(H, W, S)` in HU and `(S,)` distances in mm, float32.

    Raises:
        ValueError: If there are more or fewer neighbours, or one has another shape.
    """
    if len(neighbours) not in (0, slices - 1):
        raise ValueError(
            f"Expected {slices - 1} neighbours or none. Received: {len(neighbours)}; the network sees {slices} slice(s)"
        )
    stack_hu, distances_mm = [slice_hu] * slices, np.zeros(slices, np.float32)
    for place, neighbour in enumerate(neighbours):
        if neighbour is not None:
            if np.shape(neighbour.slice_hu) != np.shape(slice_hu):
                raise ValueError(
                    f"Expected neighbours of shape {np.shape(slice_hu)}. Received: {np.shape(neighbour.slice_hu)}"
                )
            place += place >= slices // 2
            stack_hu[place], distances_mm[place] = neighbour.slice_hu, neighbour.distance_mm
    return np.stack(stack_hu, axis=-1).astype(np.float32), distances_mm

"""Noise of neighbouring slices, correlated along z as a scanner's is."""

import numpy as np

# Three taps cannot correlate neighbours more than this: `a = sqrt(1/2)`.
MOST_CORRELATION = float(np.sqrt(0.5))


def side_tap(correlation):
    """The tap `a` of the filter `(a, 1, a)` along z that correlates neighbours of white noise by so much.

    Neighbours then have the correlation `2a / (1 + 2a^2)`, the ones after them `a^2 / (1 + 2a^2)`.

    Args:
        correlation: Of neighbouring slices, from 0 to `MOST_CORRELATION`.

    Returns:
        `a`, a float from 0 to 0.71.

    Raises:
        ValueError: If the correlation is out of range.

    Example:

    >>> round(side_tap(0.5), 3)
    0.293
    """
    if not 0 <= correlation <= MOST_CORRELATION:
        raise ValueError(
            f"Expected a correlation of neighbouring slices from 0 to {MOST_CORRELATION:.3f}. Received: {correlation}"
        )
    return float(correlation / (1 + np.sqrt(max(0.0, 1 - 2 * correlation**2))))


def correlated_along_z(fields, correlation):
    """Filters independent noise fields along z so that neighbours are correlated; the strength stays.

    Args:
        fields: `(n + 2, H, W)`, independent and of one strength.
        correlation: Of neighbouring slices, from 0 to `MOST_CORRELATION`.

    Returns:
        `(n, H, W)` of the same strength and texture.

    Raises:
        ValueError: If the correlation is out of range.
    """
    a = side_tap(correlation)
    middle = fields[1:-1] + np.float32(a) * (fields[:-2] + fields[2:])
    return middle / np.float32(np.sqrt(1 + 2 * a**2))

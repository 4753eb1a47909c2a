"""Which pixels of a mask hang together."""

import numpy as np


def connected(mask, start, *, corners):
    """Pixels of a mask that are connected with some of them.

    Args:
        mask: bool `(H, W)`.
        start: bool `(H, W)`; those outside of the mask do not count.
        corners: Whether two pixels that share only a corner are neighbours.

    Returns:
        bool `(H, W)`: what can be reached from `start` from neighbour to neighbour inside the mask.

    Example:

    >>> mask = np.array([[1, 0, 0], [0, 1, 1]], bool)
    >>> start = np.array([[1, 0, 0], [0, 0, 0]], bool)
    >>> [int(connected(mask, start, corners=corners).sum()) for corners in (False, True)]
    [1, 3]
    """
    reached = start & mask
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        # Sideways from the rows above and below too, where corners count.
        near = grown.copy() if corners else reached
        grown[:, 1:] |= near[:, :-1]
        grown[:, :-1] |= near[:, 1:]
        grown &= mask
        if np.array_equal(grown, reached):
            return reached
        reached = grown

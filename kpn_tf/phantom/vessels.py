"""Trees of tapering tubes: vessels of lung and liver, airways. In mm, axes as in `anatomy`."""

from itertools import product

import numpy as np


def _grow(starts, generations, spread_degrees, seed):
    """Tapering tubes that branch in two: `(n, 8)`, as `Canvas.tubes` wants them.

    Args:
        starts: Rows of x, y, z, direction x, y, z and radius.
        generations: How often they branch.
        spread_degrees: The angle by which branches leave their parent.
        seed: What makes one tree differ from another.
    """
    rng = np.random.default_rng(seed)
    tubes, tips = [], np.array(starts, float)
    for _ in range(generations):
        start, heading, radius = tips[:, :3], tips[:, 3:6], tips[:, 6:]
        heading = heading / np.linalg.norm(heading, axis=1, keepdims=True)
        end = start + heading * (3.4 * radius + 4.5) * rng.uniform(0.8, 1.3, radius.shape)
        thinner = radius * 0.88
        tubes.append(np.hstack([start, end, radius, thinner]))
        aside = np.cross(heading, rng.normal(size=heading.shape))
        aside /= np.linalg.norm(aside, axis=1, keepdims=True)
        branches = []
        for sign, share in ((-1, 0.8), (1, 0.96)):
            turn = sign * np.tan(np.deg2rad(rng.uniform(0.6, 1.2) * spread_degrees))
            branches.append(np.hstack([end, heading + turn * aside, thinner * share]))
        tips = np.vstack(branches)
        tips = tips[tips[:, 6] > 0.4]
    return np.vstack(tubes)


# To each side three trees of four main branches, which leave the hilum at a height and with a slope.
_LUNG_STARTS = product((-1, 1), ((48, -0.9), (30, -0.2), (8, 0.1)), (-1.3, -0.5, 0.3, 1.1))
LUNG_VESSELS = np.vstack(
    [
        _grow([[side * 26, 12, z, side, dy, dz, 4.6]], 11, 30.0, seed=n)
        for n, (side, (z, dz), dy) in enumerate(_LUNG_STARTS)
    ]
)
AIRWAYS = np.array(
    [
        (side * x, y, z, side * (x + 14), y + dy, z - 22, r, r - 0.6)
        for side in (-1, 1)
        for x, y, z, dy, r in ((34, 12, 44, 6, 2.6), (48, 18, 22, 8, 1.9), (40, 2, 40, -14, 2.0))
    ],
    float,
)
LIVER_VESSELS = _grow(
    [
        [-26, 10, 4, -0.9, -0.5, -0.15, 4.0],
        [-26, 10, 2, -0.9, 0.25, -0.3, 3.6],
        [-24, 8, 0, -0.2, -1.0, -0.4, 3.4],
        [-40, 0, -45, -0.9, 0.2, 0.6, 4.2],
        [-40, 0, -45, -0.5, -0.7, 0.5, 3.6],
    ],
    8,
    32.0,
    seed=7,
)

"""How far apart colours are for every kind of colour vision."""

import itertools

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

# On linear RGB, severity 1. Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color
# vision deficiency", IEEE TVCG 2009, from the table on the authors' page.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def seen(srgb, vision):
    """What is seen of colours `(..., 3)` in [0, 1], again as sRGB."""
    srgb = np.asarray(srgb, float)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ VISIONS[vision].T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def least_distance(colours, vision):
    """The least CIEDE2000 between any two of `(N, 3)`; 2.3 is just noticed, 10 seen at a glance."""
    lab = rgb2lab(seen(colours, vision))
    return min(float(deltaE_ciede2000(a, b)) for a, b in itertools.combinations(lab, 2))

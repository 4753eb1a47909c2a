"""Backprojection read from its definition: every pixel collects from every view where its ray passed."""

import numpy as np


def backproject(filtered, shape):
    """`(views, detectors)` to `(H, W)`: the mean over the views, times pi, linear between detectors."""
    views, detectors = filtered.shape
    rows, columns = shape
    out = np.zeros(shape)
    for y in range(rows):
        for x in range(columns):
            for view in range(views):
                angle = np.pi * view / views
                u, v = x - (columns - 1) / 2, y - (rows - 1) / 2
                position = np.cos(angle) * u + np.sin(angle) * v + detectors / 2
                out[y, x] += np.interp(position, np.arange(detectors), filtered[view])
    return out * np.pi / views

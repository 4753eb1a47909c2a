"""Metrics as their definitions read: one window, one box, one frequency at a time."""

import numpy as np


def ssim_of_every_window(x, y, data_range, weights, covariance_factor):
    side = len(weights)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for i in range(x.shape[0] - side + 1):
        for j in range(x.shape[1] - side + 1):
            a, b = x[i : i + side, j : j + side], y[i : i + side, j : j + side]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a = covariance_factor * (weights * (a - mean_a) ** 2).sum()
            var_b = covariance_factor * (weights * (b - mean_b) ** 2).sum()
            cov = covariance_factor * (weights * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            values.append(luminance * (2 * cov + c2) / (var_a + var_b + c2))
    return np.mean(values)


def std_about_a_plane(box):
    rows, columns = np.indices(box.shape)
    plane = np.stack([np.ones(box.size), rows.ravel(), columns.ravel()], axis=1)
    residual = box.ravel() - plane @ np.linalg.lstsq(plane, box.ravel(), rcond=None)[0]
    return np.sqrt((residual**2).sum() / (box.size - 3))


def soft_tissue_stds(slice_hu, cell_rows, cell_columns):
    """SD of every box of 3×3 cells, one box per cell, whose nine cell means all lie in 0..150 HU."""
    stds = []
    for i in range(slice_hu.shape[0] // cell_rows - 2):
        for j in range(slice_hu.shape[1] // cell_columns - 2):
            top, left = i * cell_rows, j * cell_columns
            box = slice_hu[top : top + 3 * cell_rows, left : left + 3 * cell_columns]
            cells = [half for third in np.split(box, 3, axis=0) for half in np.split(third, 3, axis=1)]
            if all(0 < cell.mean() < 150 for cell in cells):
                stds.append(std_about_a_plane(box))
    return stds


def power_at(region, row_cycles, column_cycles, dy, dx):
    """|∬ region · e^(-2πi f·r)|² / area of one region at one frequency, by summation."""
    rows, columns = np.indices(region.shape)
    h, w = region.shape
    wave = np.exp(-2j * np.pi * (row_cycles * rows / h + column_cycles * columns / w))
    return abs((region * wave).sum() * dy * dx) ** 2 / (h * dy * w * dx)

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


def noise_map_at(slice_hu, side, row, column):
    r = side // 2
    return std_about_a_plane(slice_hu[row - r : row + r + 1, column - r : column + r + 1])


def disc_edge(slice_hu, spacing_mm, centre, radius_mm, bin_mm, bins):
    """Mean HU of the pixels whose distance from the edge lies in each bin around it, or NaN."""
    found = {}
    for i, j in np.ndindex(slice_hu.shape):
        y, x = (i - centre[0]) * spacing_mm[0], (j - centre[1]) * spacing_mm[1]
        bin_number = round((np.sqrt(y * y + x * x) - radius_mm) / bin_mm)
        found.setdefault(bin_number, []).append(slice_hu[i, j])
    return np.array([np.mean(found[b]) if b in found else np.nan for b in range(-bins, bins + 1)])


def observer_by_its_scores(absent, present, channels):
    """Train the Hotelling template, score every image, and measure how far apart the scores are."""
    v0 = np.array([[(image * channel).sum() for channel in channels] for image in absent])
    v1 = np.array([[(image * channel).sum() for channel in channels] for image in present])
    n0, n1 = len(v0), len(v1)
    pooled = ((n0 - 1) * np.cov(v0.T) + (n1 - 1) * np.cov(v1.T)) / (n0 + n1 - 2)
    template = np.linalg.inv(pooled) @ (v1.mean(0) - v0.mean(0))
    t0, t1 = v0 @ template, v1 @ template
    variance = (((t0 - t0.mean()) ** 2).sum() + ((t1 - t1.mean()) ** 2).sum()) / (n0 + n1 - 2)
    return (t1.mean() - t0.mean()) ** 2 / variance


def structure_at(image, row, column):
    """Strength and coherence of one pixel from the singular values of its neighbourhood's gradients."""
    padded = np.pad(image, 1, mode="reflect")
    gradients = []
    for i in range(max(row - 5, 0), min(row + 6, image.shape[0])):
        for j in range(max(column - 5, 0), min(column + 6, image.shape[1])):
            d_row = (padded[i + 2, j + 1] - padded[i, j + 1]) / 2
            d_column = (padded[i + 1, j + 2] - padded[i + 1, j]) / 2
            gradients.append((d_column, d_row))
    # What lies outside the slice is taken to be as the part inside.
    s1, s2 = np.linalg.svd(np.array(gradients), compute_uv=False) * np.sqrt(121 / len(gradients))
    return s1**2, (s1 - s2) / (s1 + s2)

"""The task transfer function: discs whose blur is known give that blur back."""

import numpy as np
import pytest

from kpn_tf.metrics import fitted_disc, task_transfer
from tests.reference.slow_metrics import disc_edge

FINE_MM = 0.05


def blurred_disc(shape, spacing_mm, centre, radius_mm, spread_mm):
    """A disc of 1 on 0 under a Gaussian of known width, taken at points `spacing_mm` apart: no pixel aperture."""
    steps = [round(mm / FINE_MM) for mm in spacing_mm]
    rows, columns = (n * step for n, step in zip(shape, steps, strict=True))
    y, x = (
        np.arange(n) * FINE_MM - c * mm for n, c, mm in zip((rows, columns), centre, spacing_mm, strict=True)
    )
    disc = np.clip((radius_mm - np.hypot(y[:, None], x)) / FINE_MM + 0.5, 0, 1)
    squared = np.fft.fftfreq(rows, FINE_MM)[:, None] ** 2 + np.fft.rfftfreq(columns, FINE_MM) ** 2
    gain = np.exp(-2 * np.pi**2 * spread_mm**2 * squared)
    return np.fft.irfft2(np.fft.rfft2(disc) * gain, (rows, columns))[:: steps[0], :: steps[1]]


@pytest.mark.parametrize(
    ("spacing_mm", "radius_mm", "spread_mm", "contrast_hu"),
    [
        ((0.75, 0.75), 12.0, 0.8, 900.0),
        ((0.8, 0.6), 10.0, 0.7, -20.0),
        ((0.5, 0.65), 7.5, 0.6, 15.0),
    ],
)
def test_a_gaussian_edge_has_a_gaussian_transfer_within_two_per_cent(
    spacing_mm, radius_mm, spread_mm, contrast_hu
):
    centre = (41.3, 47.6)
    slice_hu = 50 + contrast_hu * blurred_disc((85, 97), spacing_mm, centre, radius_mm, spread_mm)
    transfer = task_transfer(slice_hu, spacing_mm, centre, radius_mm)
    theory = np.exp(-2 * (np.pi * spread_mm * transfer.frequency_per_mm) ** 2)
    np.testing.assert_allclose(transfer.ttf, theory, atol=0.02)
    assert transfer.frequency_at(0.5) == pytest.approx(np.sqrt(np.log(2) / 2) / (np.pi * spread_mm), rel=0.02)
    assert transfer.frequency_at(0.1) == pytest.approx(
        np.sqrt(np.log(10) / 2) / (np.pi * spread_mm), rel=0.02
    )
    assert transfer.contrast_hu == pytest.approx(contrast_hu, rel=0.001)


def test_the_transfer_equals_the_fourier_sum_of_an_edge_binned_pixel_by_pixel():
    spacing_mm, centre, radius_mm, bin_mm = (0.75, 0.75), (33.2, 35.7), 9.0, 0.075
    slice_hu = 100 * blurred_disc((67, 71), spacing_mm, centre, radius_mm, 0.9)
    bins = int(0.8 * radius_mm / bin_mm)
    edge = disc_edge(slice_hu, spacing_mm, centre, radius_mm, bin_mm, bins)
    known = np.flatnonzero(~np.isnan(edge))
    edge = np.interp(np.arange(2 * bins + 1), known, edge[known])
    transfer = task_transfer(slice_hu, spacing_mm, centre, radius_mm)
    sums = []
    for f in transfer.frequency_per_mm[[0, 40, 90]]:
        total = 0
        for i, slope in enumerate(np.diff(edge)):
            at = (i + 0.5 - bins) / bins
            fade = 1 if abs(at) < 0.5 else np.cos(np.pi / 2 * (abs(at) - 0.5) / 0.5) ** 2
            total += slope * fade * np.exp(-2j * np.pi * f * at * bins * bin_mm)
        sums.append(abs(total) / np.sinc(f * bin_mm) ** 2)
    np.testing.assert_allclose(transfer.ttf[[0, 40, 90]], np.array(sums) / sums[0], rtol=1e-9)


def test_a_disc_is_found_to_a_fiftieth_of_a_pixel_also_in_noise():
    spacing_mm, centre = (0.8, 0.6), (41.3, 47.6)
    disc = blurred_disc((85, 97), spacing_mm, centre, 10.0, 0.7)
    found, radius_mm = fitted_disc(60 - 300 * disc, spacing_mm, (43.0, 45.0), 9.0)
    np.testing.assert_allclose(found, centre, atol=0.02)
    # A curved edge lies inward of the disc's by spread²/(2 radius), here 0.025 mm.
    assert radius_mm == pytest.approx(10.0 - 0.7**2 / 20, abs=0.01)
    noise = np.random.default_rng(1).normal(0, 20, disc.shape)
    found, radius_mm = fitted_disc(60 - 300 * disc + noise, spacing_mm, (43.0, 45.0), 9.0)
    np.testing.assert_allclose(found, centre, atol=0.1)
    assert radius_mm == pytest.approx(10.0, abs=0.1)


def test_a_level_that_is_not_reached_is_not_a_number():
    sharp = task_transfer(blurred_disc((85, 97), (0.75, 0.75), (40, 48), 12.0, 0.2), 0.75, (40, 48), 12.0)
    assert sharp.frequency_per_mm[-1] == pytest.approx(1 / 0.75)
    assert np.isnan(sharp.frequency_at(0.01))


@pytest.mark.parametrize(
    ("centre", "radius_mm", "message"),
    [
        ((20.0, 20.0), 2.0, r"at least 4 pixels radius.* Received: 2 mm at \(20.0, 20.0\) in \(41, 43\)"),
        ((5.0, 20.0), 5.0, r"0.8 radii of background in the slice. Received: 5 mm at \(5.0, 20.0\)"),
    ],
)
def test_an_insert_that_is_too_small_or_near_the_border_is_refused(centre, radius_mm, message):
    with pytest.raises(ValueError, match=message):
        task_transfer(np.zeros((41, 43)), 0.75, centre, radius_mm)


def test_where_there_is_no_disc_none_is_found():
    with pytest.raises(ValueError, match="none that stands out; give a closer centre"):
        fitted_disc(np.zeros((41, 43)), 0.75, (20, 21), 5.0)

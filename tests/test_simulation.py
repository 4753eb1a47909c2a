import json

import numpy as np
import pytest

from kpn_tf.dose import simulation
from kpn_tf.dose.simulation import SPECTRA, NoiseSpectrum, kernel_spectrum, noise_field
from kpn_tf.hounsfield import AIR_HU, WATER_ATTENUATION_PER_MM
from kpn_tf.metrics import noise_power_spectrum
from tests.reference import slow_projection

SPACING_MM = 0.7


def oval(rows=384, columns=416, half_height=110, half_width=160, hu=40.0):
    """An oval of soft tissue in air."""
    y, x = np.mgrid[:rows, :columns]
    inside = ((y - rows / 2) / half_height) ** 2 + ((x - columns / 2) / half_width) ** 2 < 1
    return np.where(inside, hu, AIR_HU).astype("float32")


@pytest.fixture(scope="module")
def noise():
    return noise_field(oval(), SPACING_MM, 28.0, SPECTRA["soft"], np.random.default_rng(1))


@pytest.fixture(scope="module")
def mayo(ct_data):
    return json.loads((ct_data / "reference" / "mayo_noise_statistics.json").read_text())


def test_line_integrals_through_water_are_chords_of_its_outline():
    side, radius = 201, 60
    y, x = np.mgrid[:side, :side] - side // 2
    disc = np.where(np.hypot(y, x) < radius, WATER_ATTENUATION_PER_MM, 0.0)
    integrals = simulation._line_integrals(disc, SPACING_MM)
    offset = np.arange(integrals.shape[1]) - integrals.shape[1] / 2
    chord = 2 * np.sqrt(np.maximum(radius**2 - offset**2, 0)) * SPACING_MM * WATER_ATTENUATION_PER_MM
    inner = np.abs(offset) < 0.8 * radius
    for view in (0, 100, 360, 599):
        np.testing.assert_allclose(integrals[view][inner], chord[inner], rtol=0.08)


def test_the_fast_backprojection_is_the_definition():
    rng = np.random.default_rng(2)
    detectors, shape = simulation._detectors((14, 12)), (14, 12)
    weights = simulation._projection_filter(kernel_spectrum(0.08, 4), SPACING_MM, detectors)
    projections = rng.normal(size=(24, detectors))
    padded = np.fft.irfft(np.fft.rfft(projections, 2 * detectors, axis=1) * weights, axis=1)[:, :detectors]
    expected = slow_projection.backproject(1000.0 * padded, shape)
    out = simulation._backproject(projections, weights, shape, (slice(None), slice(None)))
    # Nearest of four samples a pixel against linear interpolation of one.
    assert np.std(out - expected) < 0.12 * np.std(expected)


def test_soft_tissue_gets_the_noise_asked_for(noise):
    inside = oval() > 0
    assert np.sqrt((noise[inside] ** 2).mean()) == pytest.approx(28.0, rel=0.05)


def test_it_gets_it_where_electronic_noise_rules_too():
    wide = oval(256, 256, 125, 125)
    noise = noise_field(wide, 1.9, 20.0, SPECTRA["soft"], np.random.default_rng(8))  # 475 mm of water
    assert np.sqrt((noise[wide > 0] ** 2).mean()) == pytest.approx(20.0, rel=0.03)


def test_the_noise_has_the_spectrum_asked_for(noise):
    starts = [(y, x) for y in range(110, 230, 40) for x in range(90, 290, 40)]
    regions = np.stack([noise[y : y + 40, x : x + 40] for y, x in starts])
    frequency, density = noise_power_spectrum(regions, SPACING_MM)
    expected = SPECTRA["soft"].at(frequency)
    used = frequency > 0.07  # below, detrending 28 mm boxes takes power away
    np.testing.assert_allclose(
        density[used] / density[used].sum(), expected[used] / expected[used].sum(), atol=0.03
    )


def test_the_kernels_come_near_the_spectra_of_real_pairs(mayo):
    for name, kernel in (("soft", "B30f"), ("sharp", "D45f")):
        real = np.array(mayo[kernel]["nps_relative"])
        ours = SPECTRA[name].at(np.array(mayo[kernel]["nps_frequency_per_mm"]))
        assert np.corrcoef(real, ours)[0, 1] > 0.93
        assert np.abs(real / real.sum() - ours / ours.sum()).max() < 0.03


def test_noise_in_an_oval_body_has_the_correlation_and_evenness_of_real_pairs(mayo):
    real = mayo["B30f"]
    slice_hu = oval(480, 512, 150, 215)
    noise = noise_field(slice_hu, real["pixel_mm"], 28.0, SPECTRA["soft"], np.random.default_rng(4))
    body = slice_hu > 0

    def correlation(rows, columns):
        both = body[rows:, columns:] & body[: body.shape[0] - rows, : body.shape[1] - columns]
        product = noise[rows:, columns:] * noise[: noise.shape[0] - rows, : noise.shape[1] - columns]
        return product[both].mean() / (noise[body] ** 2).mean()

    y, x = np.mgrid[:480, :512]
    distance = np.hypot(y - 240, x - 256) * real["pixel_mm"]
    outer, inner = body & (distance > 110), body & (distance < 50)
    evenness = noise[outer].std() / noise[inner].std()
    measured = [correlation(0, 1), correlation(0, 2), correlation(1, 0), correlation(2, 0), evenness]
    expected = [
        *real["acf_row_lag_1_2_3"][:2],
        *real["acf_col_lag_1_2_3"][:2],
        real["periphery_to_centre_sd"],
    ]
    np.testing.assert_allclose(measured, expected, atol=0.2)
    assert correlation(0, 1) > correlation(1, 0)  # lateral rays pass more tissue: streaks lie along rows


def test_noise_repeats_with_its_seed_and_not_without():
    slice_hu = oval(96, 104, 30, 40)
    first, again, other = (
        noise_field(slice_hu, SPACING_MM, 20.0, SPECTRA["soft"], np.random.default_rng(seed))
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1


def test_values_outside_the_inscribed_circle_do_not_matter():
    slice_hu = oval(96, 96, 30, 40)
    corners = slice_hu.copy()
    corners[:6, :6] = 3000.0
    quiet, loud = (
        noise_field(s, SPACING_MM, 20.0, SPECTRA["soft"], np.random.default_rng(7))
        for s in (slice_hu, corners)
    )
    np.testing.assert_array_equal(quiet, loud)


def test_stretching_moves_the_peak_with_the_factor():
    spectrum = SPECTRA["soft"].stretched(1.5)
    frequency = np.linspace(0.01, 1.2, 1000)
    peak = frequency[spectrum.at(frequency).argmax()]
    # f exp(-(f / c)^2) peaks at c / sqrt(2).
    assert peak == pytest.approx(1.5 * 0.31 / np.sqrt(2), abs=0.015)


def test_impossible_slices_and_spectra_are_refused():
    rng = np.random.default_rng(8)
    with pytest.raises(ValueError, match=r"finite slice of shape \(H, W\)"):
        noise_field(np.full((9, 9), np.nan), 0.7, 9.0, SPECTRA["soft"], rng)
    with pytest.raises(ValueError, match="2 frequencies, 3 densities"):
        NoiseSpectrum((0.1, 0.2), (1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="nowhere negative and somewhere positive"):
        NoiseSpectrum((0.1, 0.2), (0.0, 0.0))

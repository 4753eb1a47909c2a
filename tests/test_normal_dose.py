import numpy as np
import pytest

from kpn_tf.dose.series_noise import noise_like, quiet_slabs, series_noise, simulate_low_dose, slab_means
from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.metrics import flat_regions, regional_noise_std_hu

SPACING_MM = 0.75


@pytest.fixture(scope="module")
def noisy_series():
    """Eight slices of flat tissue with 20 HU of soft-kernel noise."""
    y, x = np.mgrid[:200, :220]
    body = np.where(((y - 100) / 80) ** 2 + ((x - 110) / 95) ** 2 < 1, 50.0, -1000.0)
    rng = np.random.default_rng(1)
    return np.stack([body + noise_field(body, SPACING_MM, 20.0, SPECTRA["soft"], rng) for _ in range(8)])


def test_strength_and_texture_of_known_noise_are_found(noisy_series):
    noise = series_noise(noisy_series, SPACING_MM)
    # Flat regions are the quieter ones of a slice.
    assert 14 < noise.std_hu < 20
    frequency = np.arange(0.1, 0.6, 0.05)
    found, true = noise.spectrum.at(frequency), SPECTRA["soft"].at(frequency)
    np.testing.assert_allclose(found / found.sum(), true / true.sum(), atol=0.06)


def test_below_the_ramp_the_spectrum_falls_to_nothing(noisy_series):
    spectrum = series_noise(noisy_series, SPACING_MM).spectrum
    assert spectrum.at(0.0) == 0
    assert spectrum.at(0.1) == pytest.approx(spectrum.at(0.2) / 2, rel=0.05)


def test_slabs_average_independent_noise_by_the_root_of_their_number(noisy_series):
    single, slab = (series_noise(v, SPACING_MM).std_hu for v in (noisy_series, slab_means(noisy_series, 4)))
    assert slab == pytest.approx(single / 2, rel=0.12)


def test_a_slab_of_more_slices_than_there_are_is_refused():
    volume = np.arange(6.0).reshape(6, 1, 1)
    with pytest.raises(ValueError, match=r"at least 7 slices for a slab\. Received: 6"):
        slab_means(volume, 7)


def test_a_series_becomes_as_quiet_as_needed_and_no_thicker_than_allowed(noisy_series):
    slabs, noises = quiet_slabs(noisy_series, SPACING_MM, 1.0, most_noise_hu=12.0)
    assert len(noises) == len(slabs)
    assert series_noise(slabs, SPACING_MM).std_hu <= 12
    quiet_enough = (
        n for n in range(2, 9) if series_noise(slab_means(noisy_series, n), SPACING_MM).std_hu <= 12
    )
    np.testing.assert_array_equal(slabs, slab_means(noisy_series, next(quiet_enough)))
    thick, _ = quiet_slabs(noisy_series, SPACING_MM, 3.0, most_noise_hu=1.0, most_thickness_mm=6.0)
    assert len(thick) == 4  # two slices of 3 mm
    untouched, _ = quiet_slabs(noisy_series, SPACING_MM, 5.0, most_noise_hu=30.0)
    np.testing.assert_allclose(untouched, noisy_series, atol=1e-3)


def test_without_flat_tissue_noise_is_not_guessed():
    with pytest.raises(ValueError, match="Expected flat soft tissue"):
        series_noise(np.full((2, 64, 64), -1000.0), SPACING_MM)


def test_a_quarter_dose_adds_three_times_the_variance_where_it_was_measured(noisy_series):
    slice_hu = noisy_series[0]
    noise = series_noise(noisy_series, SPACING_MM)
    low = simulate_low_dose(slice_hu, SPACING_MM, dose=0.25, noise=noise, rng=np.random.default_rng(2))
    added = regional_noise_std_hu(low - slice_hu, flat_regions(slice_hu, SPACING_MM))
    assert added == pytest.approx(np.sqrt(3) * noise.std_hu, rel=1e-3)
    assert abs((low - slice_hu)[slice_hu > 0].mean()) < 2
    with pytest.raises(ValueError, match=r"dose between 0 and 1, .* Received: 25"):
        simulate_low_dose(slice_hu, SPACING_MM, dose=25, noise=noise, rng=np.random.default_rng(2))


def test_without_flat_regions_the_strength_holds_over_all_soft_tissue():
    lung = np.full((64, 64), -850.0, "float32")
    noise = noise_like(lung, SPACING_MM, 30.0, SPECTRA["soft"], np.random.default_rng(3))
    assert noise.std() == pytest.approx(30, rel=0.25)


def test_a_drawn_series_has_no_noise_of_its_own(noisy_series):
    drawn = 50 + (noisy_series - noisy_series.mean()) * 1e-5
    with pytest.raises(ValueError, match=r"Expected noise of 0\.1 HU or more.*Received: \d"):
        series_noise(drawn, SPACING_MM)

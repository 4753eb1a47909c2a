import numpy as np
import pydicom
import pytest

from kpn_tf.hounsfield import WINDOWS
from kpn_tf.metrics import (
    flat_regions,
    mean_frequency,
    noise_power_spectrum,
    noise_power_spectrum_2d,
    noise_std_hu,
    psnr,
    regional_noise_std_hu,
    rmse_hu,
    ssim,
)
from tests.reference.slow_metrics import (
    power_at,
    soft_tissue_stds,
    ssim_of_every_window,
    std_about_a_plane,
)


def torso_like(rows, columns, seed):
    """Air, fat, organs and bone as smooth blobs: spans every window, so that each one clips something."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    wave = np.sin(y / 2.0 + rng.uniform(0, 6)) + np.cos(x / 3.0 + rng.uniform(0, 6))
    return np.choose(np.digitize(wave, [-1, 0, 1]), [-1000, -100, 60, 900]) + rng.normal(
        0, 10, (rows, columns)
    )


def pair(rows, columns, noise_hu=30.0):
    normal_hu = torso_like(rows, columns, seed=3)
    return normal_hu, normal_hu + np.random.default_rng(4).normal(0, noise_hu, normal_hu.shape)


@pytest.mark.parametrize("convention", WINDOWS)
@pytest.mark.parametrize("shape", [(11, 17), (64, 37)])
def test_psnr_and_both_flavours_of_ssim_agree_with_scikit_image(convention, shape):
    metrics = pytest.importorskip("skimage.metrics")
    normal_hu, low_hu = pair(*shape)
    window = WINDOWS[convention]
    x, y = (np.clip(a, window.low_hu, window.high_hu) for a in (normal_hu, low_hu))
    data_range = window.high_hu - window.low_hu
    uniform = metrics.structural_similarity(x, y, data_range=data_range)
    gaussian = metrics.structural_similarity(
        x, y, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert psnr(normal_hu, low_hu, convention=convention) == pytest.approx(
        metrics.peak_signal_noise_ratio(x, y, data_range=data_range), abs=1e-6
    )
    assert ssim(normal_hu, low_hu, convention=convention) == pytest.approx(uniform, abs=1e-6)
    assert ssim(normal_hu, low_hu, convention=convention, flavour="gaussian11") == pytest.approx(
        gaussian, abs=1e-6
    )


def test_ssim_equals_its_definition_window_by_window():
    normal_hu, low_hu = pair(13, 19)
    x, y = np.clip(normal_hu, -160, 240), np.clip(low_hu, -160, 240)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    gaussian = np.outer(taps, taps) / taps.sum() ** 2
    uniform = np.full((7, 7), 1 / 49)
    assert ssim(normal_hu, low_hu, convention="soft") == pytest.approx(
        ssim_of_every_window(x, y, 400, uniform, 49 / 48), abs=1e-9
    )
    assert ssim(normal_hu, low_hu, convention="soft", flavour="gaussian11") == pytest.approx(
        ssim_of_every_window(x, y, 400, gaussian, 1.0), abs=1e-9
    )


def test_the_convention_has_to_be_named():
    normal_hu, low_hu = pair(11, 17)
    with pytest.raises(TypeError, match="convention"):
        psnr(normal_hu, low_hu)
    with pytest.raises(TypeError, match="convention"):
        ssim(normal_hu, low_hu)


def test_what_lies_outside_the_window_does_not_count():
    normal_hu, _ = pair(11, 17)
    low_hu = np.where(normal_hu < -500, normal_hu - 2000, normal_hu)
    assert psnr(normal_hu, low_hu, convention="soft") == float("inf")
    assert ssim(normal_hu, low_hu, convention="soft") == pytest.approx(1, abs=1e-12)
    assert rmse_hu(normal_hu, low_hu) > 100


def test_a_shift_of_forty_hu_is_twenty_decibels_in_the_soft_window():
    assert psnr(np.zeros((11, 7)), np.full((11, 7), 40.0), convention="soft") == pytest.approx(20)
    assert rmse_hu(np.zeros((11, 7)), np.full((11, 7), 40.0)) == pytest.approx(40)


def test_float32_slices_are_judged_in_float64():
    normal_hu, low_hu = (a.astype(np.float32) for a in pair(31, 17))
    for convention in WINDOWS:
        exact = ssim(normal_hu.astype(float), low_hu.astype(float), convention=convention)
        assert ssim(normal_hu, low_hu, convention=convention) == exact


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda a: psnr(a, a[:-1], convention="soft"),
            r"same shape \(H, W\). Received: \(11, 7\) and \(10, 7\)",
        ),
        (lambda a: rmse_hu(a[None], a[None]), r"Received: \(1, 11, 7\)"),
        (lambda a: psnr(a, a, convention="brain"), r"one of \['full', 'lung', 'soft'\]. Received: 'brain'"),
        (lambda a: ssim(a, a, convention="soft", flavour="box"), r"Received: 'box'"),
        (lambda a: ssim(a, a, convention="soft", flavour="gaussian11"), r"at least 11x11 .* \(11, 7\)"),
        (lambda a: noise_std_hu(a, (0.0, 1.0)), r"positive pixel spacing"),
        (lambda a: noise_power_spectrum(a, 1.0), r"\(n, h, w\).* \(11, 7\)"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((11, 7)))


def test_noise_std_equals_the_box_by_box_definition():
    slice_hu = 50 + pair(61, 83, noise_hu=15.0)[1] / 20
    # Pixels of 1.3 mm by 0.7 mm make cells of 4 by 7 pixels.
    expected = np.percentile(soft_tissue_stds(slice_hu, 4, 7), 5)
    assert noise_std_hu(slice_hu, (1.3, 0.7)) == pytest.approx(expected, rel=1e-9)


def test_noise_std_ignores_slopes_air_and_bone():
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 10.0, (160, 200))
    rows, columns = np.indices(noise.shape)
    flat = noise_std_hu(50 + noise, 0.8)
    assert noise_std_hu(50 + 0.3 * rows - 0.2 * columns + noise, 0.8) == pytest.approx(flat, rel=0.02)
    half = np.where(columns < 100, 50.0, np.where(columns < 150, -1000.0, 600.0)) + noise
    assert noise_std_hu(half, 0.8) == pytest.approx(flat, rel=0.05)


def test_noise_std_scales_with_the_noise_up_to_quarter_dose():
    noise = np.random.default_rng(6).normal(0, 1.0, (256, 200))
    for std_hu in (5.0, 20.0, 45.0):
        assert 0.85 * std_hu < noise_std_hu(60 + std_hu * noise, 0.7) < std_hu


def test_without_soft_tissue_the_noise_is_not_a_number_and_no_region_is_flat():
    for slice_hu in (np.full((64, 47), -1000.0), np.full((11, 7), 50.0)):
        assert np.isnan(noise_std_hu(slice_hu, 0.8))
        assert flat_regions(slice_hu, 0.8) == []


def test_padding_is_never_part_of_a_region():
    slice_hu = 50 + np.random.default_rng(7).normal(0, 10, (128, 150))
    padding = np.zeros(slice_hu.shape, bool)
    padding[:, 60:] = True
    slice_hu[:, 60:] = 40.0
    assert noise_std_hu(slice_hu, 0.8) == 0
    assert noise_std_hu(slice_hu, 0.8, padding) > 8
    assert all(columns.stop <= 60 for _, columns in flat_regions(slice_hu, 0.8, padding))


def test_flat_regions_are_apart_equal_in_size_quiet_and_inside():
    slice_hu = 50 + np.random.default_rng(8).normal(0, 10, (130, 151))
    slice_hu[:, 75:] += np.random.default_rng(9).normal(0, 20, (130, 76))
    regions = flat_regions(slice_hu, (0.9, 0.7))
    limit_hu = 1.25 * noise_std_hu(slice_hu, (0.9, 0.7)) + 0.1
    seen = np.zeros(slice_hu.shape, int)
    for region in regions:
        seen[region] += 1
        assert slice_hu[region].shape == (18, 21)
        assert std_about_a_plane(slice_hu[region]) <= limit_hu
        assert region[1].stop <= 78
    assert len(regions) > 10
    assert seen.max() == 1


def test_a_phantom_without_noise_has_flat_regions():
    organ_hu = np.where(np.arange(150) < 75, 60.0, 105.0) * np.ones((128, 1))
    assert noise_std_hu(organ_hu, 0.8) == pytest.approx(0, abs=1e-4)
    assert len(flat_regions(organ_hu, 0.8)) > 30


def test_noise_in_given_regions_is_the_root_mean_square_of_their_sds():
    slice_hu = np.random.default_rng(14).normal(0, 10, (40, 50)) + np.arange(50)
    regions = [np.s_[0:9, 0:11], np.s_[20:29, 31:42]]
    expected = np.sqrt(np.mean([std_about_a_plane(slice_hu[region]) ** 2 for region in regions]))
    assert regional_noise_std_hu(slice_hu, regions) == pytest.approx(expected, rel=1e-9)
    assert np.isnan(regional_noise_std_hu(slice_hu, []))


def test_the_power_spectrum_integrates_to_the_variance():
    regions = np.random.default_rng(10).normal(30, 12, (5, 21, 21))
    (fy, fx), nps = noise_power_spectrum_2d(regions, (0.9, 0.7))
    variance = np.mean([std_about_a_plane(r) ** 2 * (r.size - 3) / r.size for r in regions])
    assert nps.sum() * fy[1] * fx[1] == pytest.approx(variance, rel=1e-9)


def test_the_power_spectrum_equals_a_fourier_sum_written_out():
    region = np.random.default_rng(11).normal(0, 12, (9, 11))
    rows, columns = np.indices(region.shape)
    plane = np.stack([np.ones(region.size), rows.ravel(), columns.ravel()], axis=1)
    fitted = plane @ np.linalg.lstsq(plane, region.ravel(), rcond=None)[0]
    _, nps = noise_power_spectrum_2d(region[None], (0.9, 0.7))
    for u, v in ((0, 1), (3, 2), (8, 10)):
        expected = power_at(region - fitted.reshape(region.shape), u, v, 0.9, 0.7)
        assert nps[u, v] == pytest.approx(expected, rel=1e-9)


def test_white_noise_has_a_flat_spectrum_of_variance_times_pixel_area():
    regions = np.random.default_rng(12).normal(0, 20, (400, 24, 24))
    frequency, nps = noise_power_spectrum(regions, 0.8)
    # The plane takes its share out of the lowest ring.
    assert nps[1:] == pytest.approx(20**2 * 0.8**2, rel=0.05)
    assert frequency[0] == pytest.approx(1 / (24 * 0.8), rel=0.3)
    assert frequency[-1] <= 0.5 / 0.8 * 1.05


def test_filtered_noise_has_the_spectrum_of_its_filter():
    rng = np.random.default_rng(13)
    white = rng.normal(0, 30, (200, 33, 33))
    regions = (white[:, :-1] + white[:, 1:])[:, :, :-1] / 2  # a two-tap mean down the rows
    (fy, _), nps = noise_power_spectrum_2d(regions, 0.5)
    expected = 30**2 * 0.5**2 * np.cos(np.pi * fy * 0.5) ** 2
    inside = np.abs(fy) > 0.1
    measured = nps[:, 1:].mean(axis=1)
    assert measured[inside] == pytest.approx(expected[inside], rel=0.06, abs=5.0)


def test_the_spectrum_of_white_noise_is_within_two_per_cent_of_theory_off_the_axes():
    regions = np.random.default_rng(15).normal(30, 12, (60_000, 11, 13))
    _, nps = noise_power_spectrum_2d(regions, (0.9, 0.7))
    theory = 12**2 * 0.9 * 0.7
    np.testing.assert_allclose(nps[1:, 1:], theory, rtol=0.02)
    # What a plane takes of white noise is what it can represent of each wave; the basis is orthonormal.
    for axis, n in ((0, 11), (1, 13)):
        ramp = np.arange(n) - (n - 1) / 2
        taken = np.abs(np.fft.fft(ramp / np.sqrt((ramp**2).sum()))) ** 2 / n
        along = nps[:, 0] if axis == 0 else nps[0]
        np.testing.assert_allclose(along[1:], theory * (1 - taken[1:]), rtol=0.02)
        assert taken[1] == pytest.approx(3 / np.pi**2, rel=0.04)
    assert nps[0, 0] == pytest.approx(0, abs=1e-9)


def filtered_noise(shape, rng):
    """White noise of 30 HU through [1 2 1]/4 down the rows and [1 1]/2 along the columns."""
    n, h, w = shape
    white = rng.normal(0, 30, (n, h + 2, w + 1))
    rows = (white[:, :-2] + 2 * white[:, 1:-1] + white[:, 2:]) / 4
    return (rows[:, :, :-1] + rows[:, :, 1:]) / 2


def power_of_the_filter(fy, fx, dy, dx):
    gain = (1 + np.cos(2 * np.pi * fy * dy)) / 2 * np.cos(np.pi * fx * dx)
    return 30**2 * dy * dx * gain**2


def test_the_spectrum_of_filtered_noise_is_within_two_per_cent_of_theory():
    dy, dx, rng = 0.8, 0.5, np.random.default_rng(16)
    # Regions as long as here, because a cut region smears the spectrum by a frequency bin.
    parts = [noise_power_spectrum_2d(filtered_noise((150, 160, 141), rng), (dy, dx)) for _ in range(8)]
    (fy, fx), nps = parts[0][0], np.mean([part for _, part in parts], axis=0)
    theory = power_of_the_filter(fy[:, None], fx, dy, dx)
    ratio = nps / np.where(theory > 0.2 * theory.max(), theory, np.nan)
    ratio[0, :5] = ratio[:5, 0] = np.nan  # the plane's share
    # One frequency of 1200 regions scatters by 2.9 %; boxes of 10 x 10 of them by a third of a per cent.
    for i in range(0, 160, 10):
        for j in range(0, 140, 10):
            box = np.s_[i : i + 10, j : j + 10]
            if np.isfinite(ratio[box]).sum() > 60:
                assert np.nanmean(ratio[box]) == pytest.approx(1, abs=0.02)
    assert nps.sum() * fy[1] * fx[1] == pytest.approx(30**2 * 0.375 * 0.5, rel=0.02)


def test_the_radial_spectrum_of_filtered_noise_is_the_mean_of_theory_over_each_ring():
    dy, dx, rng = 0.8, 0.5, np.random.default_rng(17)
    parts = [noise_power_spectrum(filtered_noise((400, 96, 81), rng), (dy, dx)) for _ in range(6)]
    frequency, nps = parts[0][0], np.mean([part for _, part in parts], axis=0)
    fy, fx = np.fft.fftfreq(96, dy)[:, None], np.fft.fftfreq(81, dx)
    ring = np.rint(np.hypot(fy, fx) * 81 * dx).astype(int)  # the wider bin is that of the columns
    theory = [power_of_the_filter(fy, fx, dy, dx)[ring == r].mean() for r in range(1, len(frequency))]
    strong = np.array(theory) > 0.05 * max(theory)
    strong[:4] = False  # where the plane takes more than half a per cent
    assert strong.sum() > 10
    np.testing.assert_allclose(nps[:-1][strong], np.array(theory)[strong], rtol=0.02)


def test_the_mean_frequency_of_white_noise_is_the_middle_of_its_band():
    frequency = np.linspace(0.1, 0.9, 9)
    assert mean_frequency(frequency, np.full(9, 7.0)) == pytest.approx(0.5)
    assert mean_frequency(frequency, frequency) == pytest.approx(
        (frequency**2).sum() / frequency.sum(), rel=1e-12
    )
    assert np.isnan(mean_frequency(frequency, np.zeros(9)))


# "SD in 15 mm soft-tissue boxes, 5th percentile per slice, median over slices": from the SOURCE.txt of each
# series.
@pytest.mark.parametrize(
    ("series", "expected_hu"),
    [
        ("normal_dose/rider_0117_chest_thin", 14.3),
        ("normal_dose/acrin_013_chest_abdomen", 5.5),
        ("normal_dose/acrin_001_chest", 7.4),
        ("normal_dose/acrin_001_chest_brain", 8.6),
    ],
)
def test_noise_std_of_real_series_is_what_their_source_says(ct_data, series, expected_hu):
    files = sorted((ct_data / series).rglob("*.dcm"))
    assert files
    noise_hu = []
    for path in files[:: max(1, len(files) // 15)]:
        dataset = pydicom.dcmread(path)
        slice_hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        noise_hu.append(noise_std_hu(slice_hu, [float(mm) for mm in dataset.PixelSpacing]))
    assert np.nanmedian(noise_hu) == pytest.approx(expected_hu, rel=0.1)

"""The channelised Hotelling observer against its closed form, and its interval against its promise."""

import functools

import numpy as np
import pytest
from scipy import stats

from kpn_tf.metrics import (
    auc_of,
    detectability,
    known_detectability,
    laguerre_gauss_channels,
    unbiased_square,
)
from kpn_tf.metrics.noncentral_f import noncentral_f_cdf, noncentrality_for
from tests.reference.slow_metrics import observer_by_its_scores

SIDE, COUNT = 15, 4


def signal():
    offset = np.arange(SIDE) - SIDE // 2
    return 8.0 * (np.hypot(offset[:, None], offset) < 4)


@functools.cache
def covariance():
    """Noise of 10 HU whose correlation falls off as a Gaussian, with a white share that keeps it invertible."""
    at = np.stack(np.indices((SIDE, SIDE)), axis=-1).reshape(-1, 2)
    squared = ((at[:, None] - at) ** 2).sum(-1)
    return 100 * (0.8 * np.exp(-squared / (2 * 1.5**2)) + 0.2 * np.eye(SIDE**2))


@functools.cache
def colouring():
    return np.linalg.cholesky(covariance()).T


def images(count, rng, present):
    noise = rng.normal(size=(count, SIDE**2)) @ colouring()
    return noise.reshape(count, SIDE, SIDE) + (signal() if present else 0.0)


def channels():
    return laguerre_gauss_channels(SIDE, 6.0, COUNT)


def test_laguerre_gauss_channels_are_orthonormal():
    u = laguerre_gauss_channels(101, 20.0, 6).reshape(6, -1)
    np.testing.assert_allclose(u @ u.T, np.eye(6), atol=2e-3)


def test_laguerre_gauss_channels_are_their_polynomials():
    polynomials = pytest.importorskip("scipy.special").eval_laguerre
    u = laguerre_gauss_channels(9, 5.0, 5)
    x = 2 * np.pi * (3**2 + 1**2) / 5.0**2
    expected = [np.sqrt(2) / 5 * np.exp(-x / 2) * polynomials(j, x) for j in range(5)]
    np.testing.assert_allclose(u[:, 4 + 3, 4 - 1], expected, rtol=1e-12)


def test_in_white_noise_an_observer_with_a_matched_channel_has_the_energy_of_the_signal():
    matched = signal()[None]
    expected = np.sqrt((signal() ** 2).sum()) / 10
    assert known_detectability(signal(), 100 * np.eye(SIDE**2), matched) == pytest.approx(expected, rel=1e-12)


def test_all_pixels_as_channels_make_the_hotelling_observer_and_fewer_see_less():
    pixels = np.eye(SIDE**2).reshape(-1, SIDE, SIDE)
    s = signal().ravel()
    ideal = np.sqrt(s @ np.linalg.solve(covariance(), s))
    assert known_detectability(signal(), covariance(), pixels) == pytest.approx(ideal, rel=1e-9)
    assert known_detectability(signal(), covariance(), channels()) < ideal


def test_the_sampled_observer_converges_to_the_closed_form():
    rng = np.random.default_rng(2)
    found = detectability(images(9000, rng, False), images(7000, rng, True), channels())
    expected = known_detectability(signal(), covariance(), channels())
    assert found.d_prime == pytest.approx(expected, rel=0.02)
    assert found.d_prime_interval[0] < expected < found.d_prime_interval[1]
    assert (found.absent, found.present, found.channels) == (9000, 7000, COUNT)


def test_from_few_samples_it_is_right_on_average_and_its_interval_holds_the_truth():
    rng = np.random.default_rng(3)
    true_square = known_detectability(signal(), covariance(), channels()) ** 2
    squares, naive, covered = [], [], 0
    for _ in range(600):
        absent, present = images(9, rng, False), images(7, rng, True)
        squares.append(unbiased_square(absent, present, channels()))
        naive.append(observer_by_its_scores(absent, present, channels()))
        low, high = detectability(absent, present, channels()).d_prime_interval
        covered += low**2 <= true_square <= high**2
    standard_error = np.std(squares) / np.sqrt(len(squares))
    assert abs(np.mean(squares) - true_square) < 3 * standard_error
    assert standard_error < 0.1 * true_square
    assert np.mean(naive) > 1.3 * true_square
    assert 0.92 < covered / 600 < 0.98


def test_the_observer_equals_its_scores_written_out():
    rng = np.random.default_rng(4)
    absent, present = images(13, rng, False), images(11, rng, True)
    squared = observer_by_its_scores(absent, present, channels())
    expected = squared * (24 - COUNT - 3) / 22 - COUNT * 24 / (13 * 11)
    assert unbiased_square(absent, present, channels()) == pytest.approx(expected, rel=1e-9)
    assert detectability(absent, present, channels()).d_prime == pytest.approx(np.sqrt(expected), rel=1e-9)


def test_mixing_or_scaling_the_channels_changes_nothing():
    rng = np.random.default_rng(5)
    absent, present = images(13, rng, False), images(11, rng, True)
    mixed = np.einsum("ij,jhw->ihw", rng.normal(size=(COUNT, COUNT)), channels())
    assert unbiased_square(absent, present, mixed) == pytest.approx(
        unbiased_square(absent, present, channels()), rel=1e-6
    )


def test_where_there_is_no_signal_the_interval_starts_at_zero():
    rng = np.random.default_rng(6)
    found = detectability(images(40, rng, False), images(40, rng, False), channels())
    assert found.d_prime_interval[0] == 0
    assert found.d_prime < 0.6
    assert auc_of(0) == 0.5


def test_the_area_under_the_curve_is_that_of_two_normal_distributions():
    rng = np.random.default_rng(7)
    absent, present = rng.normal(0, 1, 1500), rng.normal(1.3, 1, 1500)
    assert auc_of(1.3) == pytest.approx((present[:, None] > absent).mean(), abs=0.02)
    assert auc_of(1.3) == pytest.approx(stats.norm.cdf(1.3 / np.sqrt(2)), rel=1e-12)


@pytest.mark.parametrize("p", [1, 5, 10])
@pytest.mark.parametrize("q", [3, 30, 200])
@pytest.mark.parametrize("noncentrality", [0.0, 0.7, 40.0, 900.0])
def test_the_noncentral_f_distribution_is_that_of_scipy(p, q, noncentrality):
    x = (p + noncentrality) / p * np.array([0.3, 0.9, 1.4, 4.0])
    expected = stats.ncf.cdf(x, p, q, noncentrality) if noncentrality else stats.f.cdf(x, p, q)
    np.testing.assert_allclose([noncentral_f_cdf(v, p, q, noncentrality) for v in x], expected, atol=1e-8)
    if noncentrality > 1:
        probability = noncentral_f_cdf(x[1], p, q, noncentrality)
        assert noncentrality_for(probability, x[1], p, q) == pytest.approx(noncentrality, rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda u: detectability(np.zeros((4, 9, 9)), np.zeros((9, 7, 9)), u),
            r"\(4, 9, 9\), \(9, 7, 9\) and",
        ),
        (
            lambda u: detectability(np.zeros((4, 9, 9)), np.zeros((2, 9, 9)), u),
            r"more than 6 images for 3 channels, of both kinds. Received: 4 without and 2 with",
        ),
        (lambda u: laguerre_gauss_channels(9, 0, 3), r"positive side, width .* Received: side 9, width 0"),
    ],
)
def test_too_few_images_and_other_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(laguerre_gauss_channels(9, 4.0, 3))

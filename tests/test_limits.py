"""Beside metal, and beside padding that nobody declared, a denoised slice is no worse than its source."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from export.signatures import signatures
from kpn_tf import Denoiser
from kpn_tf.hounsfield import SEEN
from kpn_tf.networks import StructKPN
from kpn_tf.ops.limits import within_limits

SIDE = 128


@pytest.fixture(scope="module")
def denoise():
    return Denoiser("edge", threads=1)


def rod(hu, radius, noise_hu, blur=0.8):
    """A rod in 50 HU tissue with the edge of a scanner: distances from its axis in pixels, truth and slice in HU."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    distance = np.hypot(rows, columns)
    truth_hu = gaussian_filter(np.where(distance < radius, float(hu), 50.0), blur)
    noise = gaussian_filter(np.random.default_rng(1).standard_normal(truth_hu.shape), 0.7)
    return distance, truth_hu, (truth_hu + noise * (noise_hu / noise.std())).astype("float32")


@pytest.mark.parametrize("noise_hu", [10, 20, 40])
@pytest.mark.parametrize("radius", [3, 8, 15])
@pytest.mark.parametrize("hu", [30000, 8000, 3071, -3024, -8192])
def test_around_what_lies_beyond_the_scale_noise_falls_and_no_halo_appears(denoise, hu, radius, noise_hu):
    distance, truth_hu, slice_hu = rod(hu, radius, noise_hu)
    denoised_hu = denoise(slice_hu)
    near = (distance > radius + 1) & (distance < radius + 8)
    # A halo is what lies beyond the tissue on its other side.
    towards = np.sign(hu)
    halo_hu = (towards * slice_hu[near]).min() - (towards * denoised_hu[near]).min()
    assert halo_hu < noise_hu
    tissue = (distance > radius + 4) & (distance < radius + 22)
    assert (denoised_hu - truth_hu)[tissue].std() < 0.75 * (slice_hu - truth_hu)[tissue].std()


def test_inside_the_limits_they_change_no_bit_and_beyond_them_the_excess_comes_back(denoise):
    rng = np.random.default_rng(2)
    inside_hu = rng.uniform(SEEN.low_hu, SEEN.high_hu, (44, 60)).astype("float32")
    assert np.array_equal(within_limits(np.asarray, inside_hu), inside_hu)
    beyond_hu = np.array(inside_hu)
    beyond_hu[20:25, 30:33], beyond_hu[5, 7] = 20000.0, -3024.0
    seen_hu = np.clip(beyond_hu, SEEN.low_hu, SEEN.high_hu)
    np.testing.assert_allclose(denoise(beyond_hu), denoise(seen_hu) + (beyond_hu - seen_hu), atol=0.01)


def test_served_floats_may_lie_beyond_int16_and_whole_hu_are_limited_to_it():
    served = signatures(StructKPN("edge").call)
    slice_hu = np.full((1, 24, 28, 1), 40.0, "float32")
    slice_hu[0, 12, 14, 0], slice_hu[0, 3, 3, 0] = 50000.0, -40000.0
    denoised_hu = served["serving_default"][0](slice_hu)["denoised_hu"].numpy()[0, :, :, 0]
    assert denoised_hu[12, 14] > 48000
    assert denoised_hu[3, 3] < -38000
    whole_hu = np.clip(slice_hu, -32768, 32767).astype("int16")
    limited_hu = served["int16"][0](whole_hu)["denoised_hu"].numpy()[0, :, :, 0]
    assert limited_hu.dtype == np.int16
    assert limited_hu[12, 14] > 30000
    assert limited_hu[3, 3] < -30000
    slice_hu[0, 12, 14, 0] = np.inf
    infinite_hu = served["serving_default"][0](slice_hu)["denoised_hu"].numpy()[0, :, :, 0]
    assert np.argwhere(np.isinf(infinite_hu)).tolist() == [[12, 14]]


@pytest.mark.parametrize("preset", ["edge", "paper"])
def test_both_presets_filter_what_is_limited_with_the_kernels_that_they_name(preset):
    network = StructKPN(preset, kernel_size=5)
    slice_hu = np.random.default_rng(3).normal(0.0, 2000.0, (28, 32)).astype("float32")
    seen_hu = np.clip(slice_hu, SEEN.low_hu, SEEN.high_hu)
    kernel = network.kernels_at(slice_hu, [13], [17])[0]  # (5, 5)
    expected_hu = (kernel * seen_hu[11:16, 15:20]).sum() + slice_hu[13, 17] - seen_hu[13, 17]
    denoised_hu = np.asarray(network(slice_hu[None, :, :, None]))[0, 13, 17, 0]
    assert denoised_hu == pytest.approx(expected_hu, abs=0.01)


def test_a_file_tells_the_kernels_that_the_network_applies_beside_metal(denoise):
    _, _, slice_hu = rod(20000, 4, 20.0)
    row, column = SIDE // 2, SIDE // 2 + 7
    kernel = denoise.kernels_at(slice_hu, [row], [column])[0]  # (21, 21)
    seen_hu = np.clip(slice_hu, SEEN.low_hu, SEEN.high_hu)
    filtered_hu = (kernel * seen_hu[row - 10 : row + 11, column - 10 : column + 11]).sum()
    assert denoise(slice_hu)[row, column] == pytest.approx(
        filtered_hu + slice_hu[row, column] - seen_hu[row, column], abs=0.05
    )

import numpy as np
import pytest
from keras import ops

from kpn_tf.ops.filter_bank import (
    denoising_filters,
    filter_bank_phases,
    mixture_of_filters,
)
from kpn_tf.ops.local_conv import kernel_side, local_conv, patches
from kpn_tf.ops.space_depth import depth_to_space, space_to_depth
from kpn_tf.ops.ssim import ssim_map
from kpn_tf.ops.structure_tensor import box_mean, strength_and_coherence, structure_tensor_eigenvalues
from tests.reference import slow_kernels


def array(tensor):
    return ops.convert_to_numpy(tensor)


def noise(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_local_conv_is_the_loop_over_pixels_and_taps():
    image, kernels = noise((11, 7), 1), noise((11, 7, 25), 2)
    out = array(local_conv(image[None, :, :, None], kernels[None]))[0, :, :, 0]
    np.testing.assert_allclose(out, slow_kernels.local_conv(image, kernels), atol=1e-5)


@pytest.mark.parametrize(
    ("tap", "row", "column"), [(0, -1, -1), (1, -1, 0), (3, 0, -1), (4, 0, 0), (8, 1, 1)]
)
def test_tap_t_reads_row_offset_t_div_k_and_column_offset_t_mod_k(tap, row, column):
    image = np.zeros((1, 11, 7, 1), "float32")
    image[0, 5 + row, 3 + column, 0] = 1.0
    taps = array(patches(image, 3))[0, 5, 3]
    assert taps.tolist() == [float(t == tap) for t in range(9)]


def test_the_border_is_mirrored_without_repeating_the_edge():
    image = np.tile(np.array([1.0, 2, 3, 4], "float32"), (5, 1))[None, :, :, None]
    assert array(patches(image, 5))[0, 2, 0, 10:15].tolist() == [3, 2, 1, 2, 3]
    assert array(patches(image, 5))[0, 2, 3, 10:15].tolist() == [2, 3, 4, 3, 2]


def test_kernels_that_sum_to_one_leave_a_constant_slice_alone():
    kernels = noise((1, 11, 7, 49), 3)
    kernels += (1 - kernels.sum(-1, keepdims=True)) / 49
    flat = np.full((1, 11, 7, 1), 37.0, "float32")
    np.testing.assert_allclose(array(local_conv(flat, kernels)), flat, atol=1e-3)


def test_kernels_that_sum_to_one_commute_with_an_affine_intensity_scale():
    image, kernels = noise((1, 11, 7, 1), 4), noise((1, 11, 7, 9), 5)
    kernels += (1 - kernels.sum(-1, keepdims=True)) / 9
    scaled = array(local_conv(3 * image - 20, kernels))
    np.testing.assert_allclose(scaled, 3 * array(local_conv(image, kernels)) - 20, atol=1e-4)


@pytest.mark.parametrize("taps", [8, 16, 12])
def test_taps_that_are_no_odd_square_are_refused(taps):
    with pytest.raises(ValueError, match=f"square of an odd number. Received: {taps}"):
        kernel_side(taps)


def test_space_to_depth_orders_row_phase_column_phase_channel():
    image = np.arange(4 * 6 * 2, dtype="float32").reshape(1, 4, 6, 2)
    phases = array(space_to_depth(image, 2))
    for p in range(2):
        for q in range(2):
            np.testing.assert_array_equal(phases[0, :, :, (2 * p + q) * 2 :][..., :2], image[0, p::2, q::2])
    np.testing.assert_array_equal(array(depth_to_space(phases, 2)), image)


@pytest.mark.parametrize(("stride", "size"), [(2, 3), (2, 21), (4, 5), (4, 21)])
def test_the_filter_bank_is_the_loop_over_its_filters(stride, size):
    image, filters = noise((24, 36), 8), noise((size, size, 3), 9) / size
    phases = filter_bank_phases(image[None, :, :, None], filters, stride)
    fast = array(depth_to_space(phases, stride))[0]
    np.testing.assert_allclose(fast, slow_kernels.filter_bank(image, filters), atol=1e-5)


def test_a_kernel_that_does_not_divide_into_phases_is_refused():
    with pytest.raises(ValueError, match=r"multiple of 4 plus one. Received: 7"):
        filter_bank_phases(np.zeros((1, 8, 8, 1), "float32"), np.zeros((7, 7, 2), "float32"), 4)


def test_a_mixture_of_filters_is_a_local_convolution_with_the_mixed_kernels():
    image, filters = noise((1, 12, 22, 1), 10), noise((5, 5, 9), 11)
    shares = noise((1, 12, 22, 9), 12)
    kernels = np.einsum("bhwc,ijc->bhwij", shares, filters).reshape(1, 12, 22, 25)
    mixed = mixture_of_filters(image, space_to_depth(shares, 2), filters, 2)
    np.testing.assert_allclose(array(mixed), array(local_conv(image, kernels)), atol=1e-4)


@pytest.mark.parametrize("count", [9, 13, 32])
def test_the_starting_bank_holds_distinct_centred_filters_of_unit_sum(count):
    bank = denoising_filters(21, count)
    assert bank.shape == (21, 21, count)
    np.testing.assert_allclose(bank.sum(axis=(0, 1)), 1, atol=1e-5)
    np.testing.assert_allclose(bank[::-1, ::-1], bank, atol=1e-6)
    assert bank[10, 10, 0] == 1
    flat = bank.reshape(-1, count)
    distances = np.abs(flat[:, :, None] - flat[:, None, :]).max(axis=0) + np.eye(count)
    assert distances.min() > 1e-4


def test_eigenvalues_in_closed_form_are_the_squared_singular_values_of_the_gradients():
    image = noise((23, 17), 13)
    larger, smaller = structure_tensor_eigenvalues(image[None, :, :, None], 11)
    expected = slow_kernels.singular_values(image.astype(float), 11) ** 2
    inner = np.s_[5:-5, 5:-5]
    np.testing.assert_allclose(array(larger)[0, :, :, 0][inner], expected[inner][..., 0], rtol=1e-4)
    np.testing.assert_allclose(array(smaller)[0, :, :, 0][inner], expected[inner][..., 1], rtol=1e-4)


def test_an_edge_is_coherent_a_corner_less_and_flat_tissue_has_neither_strength_nor_coherence():
    image = np.zeros((1, 41, 61, 1), "float32")
    image[:, :, 20:40] = 0.5  # two vertical edges
    image[:, 30:, 40:] = 0.5  # and a corner
    strength, coherence = (array(t)[0, :, :, 0] for t in strength_and_coherence(image, 11))
    assert coherence[10, 20] == pytest.approx(1, abs=1e-3)
    assert 0 < coherence[30, 40] < 0.5
    assert strength[10, 5] == 0
    assert coherence[10, 5] == 0
    # Central differences of a step of 0.5 are 0.25 on two columns, summed over 11 rows.
    assert strength[10, 20] == pytest.approx(2 * 11 * 0.25**2, rel=1e-4)


def test_strength_by_root_is_the_larger_singular_value():
    image = noise((1, 15, 19, 1), 14)
    literal, _ = strength_and_coherence(image, 11, "literal")
    root, _ = strength_and_coherence(image, 11, "sqrt")
    np.testing.assert_allclose(array(root) ** 2, array(literal), rtol=1e-5)
    with pytest.raises(ValueError, match=r"one of \('literal', 'sqrt'\). Received: 'mean'"):
        strength_and_coherence(image, 11, "mean")


def test_the_box_mean_at_the_border_covers_the_part_inside():
    image = noise((1, 11, 7, 1), 15)
    out = array(box_mean(image, 3))[0, :, :, 0]
    assert out[0, 0] == pytest.approx(image[0, :2, :2, 0].mean(), abs=1e-6)
    assert out[5, 3] == pytest.approx(image[0, 4:7, 2:5, 0].mean(), abs=1e-6)


def test_the_similarity_map_agrees_with_scikit_image_away_from_the_border():
    metrics = pytest.importorskip("skimage.metrics")
    reference = np.random.default_rng(16).uniform(size=(31, 37)).astype("float32")
    image = reference + 0.1 * noise((31, 37), 17)
    _, expected = metrics.structural_similarity(
        reference, image, win_size=11, data_range=1.0, use_sample_covariance=False, full=True
    )
    out = array(ssim_map(reference[None, :, :, None], image[None, :, :, None], 11))[0, :, :, 0]
    np.testing.assert_allclose(out[5:-5, 5:-5], expected[5:-5, 5:-5], atol=1e-4)

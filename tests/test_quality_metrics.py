"""Noise maps, HU bias, contrast and structure on slices whose answers are known."""

import numpy as np
import pytest

from kpn_tf.metrics import (
    contrast_and_noise_hu,
    contrast_to_noise,
    grid_bias_hu,
    noise_std_map,
    structure_by_class,
    structure_classes,
)
from kpn_tf.metrics.structure import strength_and_coherence
from tests.reference.slow_metrics import noise_map_at, structure_at


def test_the_noise_map_is_the_sd_about_a_plane_of_every_window_and_ends_half_a_window_from_the_border():
    slice_hu = np.random.default_rng(1).normal(-900, 30, (17, 23)) + 4 * np.arange(23)
    found = noise_std_map(slice_hu, 7)
    for row, column in ((3, 3), (9, 12), (13, 19)):
        assert found[row, column] == pytest.approx(noise_map_at(slice_hu, 7, row, column), rel=1e-9)
    known = np.zeros(slice_hu.shape, bool)
    known[3:-3, 3:-3] = True
    np.testing.assert_array_equal(np.isfinite(found), known)


def test_the_noise_map_shows_which_half_is_noisy_and_no_shading():
    rows, columns = np.indices((120, 101))
    std_hu = np.where(columns < 50, 8.0, 25.0)
    slice_hu = 40 + 0.7 * rows - 0.4 * columns + std_hu * np.random.default_rng(2).normal(size=rows.shape)
    found = noise_std_map(slice_hu, 11)
    assert np.sqrt(np.nanmean(found[:, :45] ** 2)) == pytest.approx(8, rel=0.02)
    assert np.sqrt(np.nanmean(found[:, 56:] ** 2)) == pytest.approx(25, rel=0.02)
    np.testing.assert_allclose(noise_std_map(0.7 * rows - 0.4 * columns, 11)[5:-5, 5:-5], 0, atol=1e-5)


def test_the_bias_of_cells_is_the_mean_of_what_was_added_to_them():
    rows, columns = np.indices((23, 31))
    reference_hu = np.random.default_rng(3).normal(0, 400, (23, 31))
    found = grid_bias_hu(reference_hu, reference_hu + 2 * (rows // 5) - 3 * (columns // 5), 5)
    np.testing.assert_allclose(found, 2 * np.arange(4)[:, None] - 3 * np.arange(6), atol=1e-9)


def test_the_bias_of_pure_noise_scatters_by_noise_over_the_side_of_a_cell():
    noise = np.random.default_rng(4).normal(0, 20, (500, 400))
    found = grid_bias_hu(np.zeros_like(noise), noise, 10)
    assert found.std() == pytest.approx(20 / 10, rel=0.05)
    assert found.mean() == pytest.approx(0, abs=4 * 2 / np.sqrt(found.size))


def test_cells_that_are_not_wholly_inside_are_not_judged():
    inside = np.zeros((20, 30), bool)
    inside[0:10, 4:20] = True
    found = grid_bias_hu(np.zeros((20, 30)), np.ones((20, 30)), 10, inside)
    np.testing.assert_array_equal(found, [[np.nan, 1, np.nan], [np.nan] * 3])


def test_contrast_over_noise_is_what_was_put_in():
    rng = np.random.default_rng(5)
    rows, columns = np.indices((301, 257))
    inside = np.hypot(rows - 150, columns - 120) < 60
    slice_hu = 105 - 15.0 * inside + rng.normal(0, 12, inside.shape)
    contrast_hu, noise_hu = contrast_and_noise_hu(slice_hu, inside, ~inside)
    assert contrast_hu == pytest.approx(-15, abs=0.5)
    assert noise_hu == pytest.approx(12, rel=0.02)
    assert contrast_to_noise(slice_hu, inside, ~inside) == pytest.approx(15 / 12, rel=0.03)
    assert contrast_to_noise(10.0 * inside, inside, ~inside) == float("inf")


def bars(rows=41, columns=53):
    """A step, a fine checker and a flat part, in HU: what the three classes are made of."""
    slice_hu = np.full((rows, columns), 40.0)
    slice_hu[:, 12:] += 30.0
    y, x = np.indices((rows, columns))
    slice_hu[:, 36:] += np.where((y // 2 + x // 2) % 2, 150.0, -150.0)[:, 36:]
    return slice_hu


def test_strength_and_coherence_are_those_of_the_singular_values():
    slice_hu = bars() + np.random.default_rng(6).normal(0, 5, (41, 53))
    strength, coherence = strength_and_coherence(slice_hu)
    image = (np.clip(slice_hu, -160, 240) + 160) / 400
    for row, column in ((20, 26), (0, 0), (40, 14), (3, 52)):
        expected = structure_at(image, row, column)
        assert strength[row, column] == pytest.approx(expected[0], rel=1e-9)
        assert coherence[row, column] == pytest.approx(expected[1], rel=1e-9)


def test_strength_coherence_and_classes_are_those_of_the_loss():
    pytest.importorskip("keras")
    from kpn_tf.hounsfield import WINDOWS
    from kpn_tf.losses import StructureAwareLoss
    from kpn_tf.losses.structure_aware import window_unit
    from kpn_tf.ops import structure_tensor

    slice_hu = (bars() + np.random.default_rng(7).normal(0, 9, (41, 53))).astype(np.float32)
    batch = slice_hu[None, :, :, None]
    ours = strength_and_coherence(slice_hu)
    theirs = structure_tensor.strength_and_coherence(window_unit(batch, WINDOWS["soft"]), 11)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, np.asarray(their)[0, :, :, 0], rtol=2e-3, atol=2e-4)
    weights = np.asarray(StructureAwareLoss().weights(batch))[0]
    largest = np.sort(weights, axis=-1)
    clear = largest[..., 2] - largest[..., 1] > 1e-3
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(structure_classes(slice_hu)[clear], weights.argmax(-1)[clear])


def test_steps_are_edges_checkers_are_fine_and_the_rest_is_flat():
    classes = structure_classes(bars())
    assert (classes[:, 8:16] == 0).all()
    assert (classes[:, 20:28] == 1).all()
    assert (classes[6:-6, 42:-6] == 2).all()


def test_the_strength_of_a_ramp_is_its_slope_and_its_coherence_is_one():
    slice_hu = 10 + 3.0 * np.indices((25, 31))[1]
    # Six pixels from the mirrored border on, every gradient of a neighbourhood is the slope.
    inner = np.full(slice_hu.shape, -1)
    inner[:, 6:-6] = 0
    strength_hu, coherence = structure_by_class(slice_hu, inner)["edge"]
    assert strength_hu == pytest.approx(3, rel=1e-9)
    assert coherence == pytest.approx(1, abs=1e-6)


def test_half_the_contrast_is_half_the_strength_and_the_same_coherence():
    slice_hu = 40 + (bars() - 40) * 0.5
    classes = structure_classes(bars())
    whole, half = structure_by_class(bars(), classes), structure_by_class(slice_hu, classes)
    for name in ("edge", "fine"):
        assert half[name][0] == pytest.approx(whole[name][0] / 2, rel=1e-9)
        assert half[name][1] == pytest.approx(whole[name][1], abs=1e-9)


def test_a_class_that_no_pixel_is_of_has_no_numbers():
    found = structure_by_class(bars(), np.ones((41, 53), int))
    assert np.isnan(found["fine"]).all()
    assert np.isfinite(found["flat"]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_std_map(np.zeros((9, 9)), 4), r"odd side of 3 or more .* Received: side 4"),
        (lambda: noise_std_map(np.zeros((9, 6)), 7), r"not smaller. Received: side 7, shape \(9, 6\)"),
        (lambda: grid_bias_hu(np.zeros((9, 6)), np.zeros((9, 7)), 3), r"\(9, 6\), \(9, 7\) and 3"),
        (lambda: grid_bias_hu(np.zeros((9, 6)), np.zeros((9, 6)), 7), r"at least 7x7 pixels. .* \(9, 6\)"),
        (
            lambda: contrast_to_noise(np.zeros((1, 3)), np.eye(1, 3) > 0, np.eye(1, 3, 1) > 0),
            r"2 or more of background. Received: 1 and 1",
        ),
        (
            lambda: contrast_and_noise_hu(np.zeros((1, 3)), np.zeros((1, 3), bool), np.ones((1, 3), bool)),
            r"Expected pixels inside and 2 or more of background. Received: 0 and 3",
        ),
    ],
)
def test_errors_say_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()

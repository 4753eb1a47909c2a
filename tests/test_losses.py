import keras
import numpy as np
import pytest
from keras import ops

from kpn_tf import StructureAwareLoss


def slices(seed, scale=60.0):
    return np.random.default_rng(seed).normal(40, scale, (2, 23, 17, 1)).astype("float32")


def test_the_three_weights_are_shares_of_every_pixel():
    weights = ops.convert_to_numpy(StructureAwareLoss().weights(slices(1)))
    assert weights.shape == (2, 23, 17, 3)
    assert weights.min() > 0
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_flat_tissue_weighs_absolute_error_an_edge_squared_error_and_strong_structure_similarity():
    image = np.zeros((1, 41, 81, 1), "float32")
    image[:, :, 20:] = 60.0  # 0.15 of the window: an edge of little strength
    image[:, :, 60:] = np.where(np.indices((41, 21)).sum(0) % 4 < 2, 200.0, -100.0)[None, :, :, None]
    weights = ops.convert_to_numpy(StructureAwareLoss().weights(image))[0]
    assert weights[20, 5].argmax() == 1
    assert weights[20, 20].argmax() == 0
    assert weights[20, 70].argmax() == 2


def test_the_loss_is_the_formula_of_the_paper_plus_absolute_error_over_all_of_hu():
    loss = StructureAwareLoss()
    # Constant slices inside the window: coherence and strength 0, weights softmax([0, 0.35, 0]).
    normal = np.full((1, 15, 15, 1), 40.0, "float32")
    denoised = np.full((1, 15, 15, 1), 80.0, "float32")
    other = 1 / (2 + np.exp(0.35))
    l1_share = np.exp(0.35) * other
    x, y, error = 0.5, 0.6, 0.1
    similarity = (2 * x * y + 1e-4) / (x**2 + y**2 + 1e-4)
    expected = 0.5 * (other * error**2 + l1_share * error - other * similarity) + 0.5 * error
    assert float(loss(normal, denoised)) == pytest.approx(expected, abs=3e-4)


def test_lung_and_bone_outside_the_window_still_count():
    loss = StructureAwareLoss()
    for hu in (-800.0, 1200.0):
        normal = np.full((1, 15, 15, 1), hu, "float32")
        assert float(loss(normal, normal + 20)) - float(loss(normal, normal)) == pytest.approx(
            0.5 * 20 / 400, abs=1e-5
        )


def test_the_per_pixel_loss_has_the_shape_of_the_slice():
    loss = StructureAwareLoss(reduction=None)
    assert ops.shape(loss(slices(2), slices(3))) == (2, 23, 17)


def test_the_weights_come_from_the_normal_dose_slice_alone():
    loss = StructureAwareLoss()
    normal = slices(4)
    before = ops.convert_to_numpy(loss.weights(normal))
    loss(normal, slices(5))
    np.testing.assert_array_equal(before, ops.convert_to_numpy(loss.weights(normal)))


def test_the_loss_survives_serialisation():
    loss = StructureAwareLoss(size=9, strength="sqrt")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert (again.size, again.strength) == (9, "sqrt")
    assert float(again(slices(6), slices(7))) == pytest.approx(float(loss(slices(6), slices(7))))

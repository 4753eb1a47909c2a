import keras
import numpy as np
import pytest
from keras import ops

from kpn_tf import StructKPN
from tests.reference import slow_kernels


@pytest.fixture(scope="module")
def edge():
    keras.utils.set_random_seed(3)
    return StructKPN("edge")


@pytest.fixture(scope="module")
def paper():
    keras.utils.set_random_seed(4)
    return StructKPN("paper", kernel_size=15)


def slice_of(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(0, 80, (rows, columns)).astype("float32")


def denoise(network, slice_hu):
    return ops.convert_to_numpy(network(slice_hu[None, :, :, None]))[0, :, :, 0]


# The sizes of the paper's Table 3, counted from its Fig. 1; k = 21 exactly.
@pytest.mark.parametrize(
    ("size", "parameters"),
    [(15, 1_818_000), (19, 1_910_000), (21, 1_981_763), (23, 2_075_000), (27, 2_345_000)],
)
def test_the_paper_preset_has_the_papers_parameters(size, parameters):
    tolerance = 0 if size == 21 else 500
    assert StructKPN("paper", kernel_size=size).count_params() == pytest.approx(parameters, abs=tolerance)


@pytest.mark.parametrize("name", ["edge", "paper"])
@pytest.mark.parametrize("shape", [(22, 27), (33, 21), (40, 41)])
def test_a_constant_slice_of_any_size_comes_back_unchanged(name, shape, request):
    flat = np.full(shape, 57.0, "float32")
    np.testing.assert_allclose(denoise(request.getfixturevalue(name), flat), flat, atol=1e-2)


@pytest.mark.parametrize("name", ["edge", "paper"])
def test_the_kernels_at_a_pixel_are_the_ones_applied_there(name, request):
    network = request.getfixturevalue(name)
    slice_hu = slice_of(37, 30)
    rows, columns = [0, 5, 18, 19, 36, 36], [0, 29, 15, 14, 0, 29]
    kernels = network.kernels_at(slice_hu, rows, columns)
    size = network.kernel_size
    assert kernels.shape == (6, size, size)
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, atol=1e-5)
    applied = np.zeros((37, 30, size * size))
    applied[rows, columns] = kernels.reshape(6, -1)
    expected = slow_kernels.local_conv(slice_hu, applied)[rows, columns]
    if name == "edge":  # its border is mirrored once more on an odd side; away from it nothing differs
        inner = [2, 3]
        np.testing.assert_allclose(
            denoise(network, slice_hu)[rows, columns][inner], expected[inner], atol=1e-2
        )
    else:
        np.testing.assert_allclose(denoise(network, slice_hu)[rows, columns], expected, atol=1e-2)


def test_softmax_kernels_of_the_paper_are_positive(paper):
    assert paper.kernels_at(slice_of(21, 21), [10], [10]).min() >= 0


def test_the_scores_of_the_paper_preset_start_from_a_gaussian_filter():
    network = StructKPN("paper", kernel_size=7)
    taps = ops.convert_to_numpy(ops.softmax(network.predictor.layers[1].bias)).reshape(7, 7)
    profile = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    np.testing.assert_allclose(taps, np.outer(profile, profile) / profile.sum() ** 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["edge", "paper"])
def test_networks_survive_saving(name, request, tmp_path):
    network = request.getfixturevalue(name)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(
        denoise(again, slice_of(23, 31)), denoise(network, slice_of(23, 31)), atol=1e-4
    )


def test_a_trunk_in_bfloat16_leaves_hu_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = StructKPN("edge")
    finally:
        keras.config.set_dtype_policy("float32")
    flat = np.full((24, 28), 1003.25, "float32")  # not a bfloat16 number: the nearest is 1004
    np.testing.assert_allclose(denoise(network, flat), flat, atol=1e-2)


def test_wrong_constructions_and_pixels_are_refused(edge):
    with pytest.raises(ValueError, match="Expected preset to be one of"):
        StructKPN("small")
    with pytest.raises(ValueError, match=r"odd kernel_size of 3 or more. Received: 20"):
        StructKPN("paper", kernel_size=20)
    with pytest.raises(ValueError, match="inside a slice of shape"):
        edge.kernels_at(slice_of(23, 31), [23], [0])
    with pytest.raises(ValueError, match="one slice of shape"):
        edge.kernels_at(np.zeros((1, 23, 31)), [0], [0])

"""Kernels in numbers: how far they reach, and whether they differ where the slice does."""

import keras
import numpy as np
import pytest

from kpn_tf import Denoiser, StructKPN
from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.kernels import kernel_shapes
from kpn_tf.metrics import kernels_by_class, structure_classes
from kpn_tf.metrics.structure import unclipped
from kpn_tf.phantom import torso
from tests.reference.slow_kernels import kernel_shape

# Liver, spine and aorta of the torso's middle slice.
PART = (slice(190, 330), slice(150, 330))

# What kernels that differ must differ by, as ratios of medians: those at flat pixels reach further than those at fine
# ones, which are longer. Many edges of the torso are too faint to be seen in the noise: theirs lie between.
LEAST_RADIUS_RATIO, LEAST_ANISOTROPY_RATIO = 1.5, 1.2


def test_shapes_are_those_of_every_tap_added_up():
    rng = np.random.default_rng(3)
    kernels = rng.normal(0.2, 1.0, (40, 7, 7))
    kernels = kernels[kernels.sum(axis=(1, 2)) > 1]
    radius, anisotropy = kernel_shapes(kernels)
    expected = np.array([kernel_shape(kernel) for kernel in kernels])
    np.testing.assert_allclose(radius, expected[:, 0], rtol=1e-9)
    np.testing.assert_allclose(anisotropy, expected[:, 1], rtol=1e-9)


@pytest.mark.parametrize("angle", [0, 30, 45, 90])
def test_an_elongated_gaussian_has_the_axes_it_was_given(angle):
    rows, columns = np.indices((41, 41)) - 20
    turn = np.deg2rad(angle)
    along, across = columns * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - columns * np.sin(turn)
    kernel = np.exp(-(along**2) / (2 * 4.0**2) - across**2 / (2 * 2.0**2))
    (radius,), (anisotropy,) = kernel_shapes(kernel[None])
    assert radius == pytest.approx(np.sqrt(4.0**2 + 2.0**2 + 1 / 6), rel=1e-3)
    assert anisotropy == pytest.approx(np.sqrt((16 + 1 / 12) / (4 + 1 / 12)), rel=1e-3)


def test_one_tap_is_as_wide_as_a_pixel_and_a_sharpening_kernel_is_no_narrower():
    delta, sharpening = np.zeros((2, 5, 5))
    delta[2, 2] = 1
    sharpening[2] = [0, -0.5, 2, -0.5, 0]
    radius, anisotropy = kernel_shapes(np.stack([delta, sharpening]))
    np.testing.assert_allclose(radius, np.sqrt(1 / 6))
    np.testing.assert_allclose(anisotropy, 1)


@pytest.mark.parametrize(
    ("kernels", "received"),
    [
        (np.ones((5, 5)), r"shape \(5, 5\)"),
        (np.ones((2, 4, 4)), r"shape \(2, 4, 4\)"),
        (np.zeros((1, 3, 3)), "a sum of 0"),
    ],
)
def test_what_is_no_kernel_is_refused(kernels, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        kernel_shapes(kernels)


class Told:
    """Knows which pixels it was asked for, class by class."""

    def __init__(self):
        self.asked = []

    def kernels_at(self, slice_hu, rows, columns):
        self.asked.append((rows, columns))
        kernels = np.zeros((len(rows), 3, 3))
        kernels[:, 1, 1] = 1
        return kernels


def test_the_pixels_are_of_their_class_unclipped_and_no_more_than_asked_for():
    rows, columns = np.indices((60, 64))
    normal_hu = np.where(columns < 30, 40.0, 90.0) - 1000 * (rows < 20)
    network = Told()
    found = kernels_by_class(network, normal_hu, normal_hu, pixels=50)
    for i, (name, asked) in enumerate(zip(("edge", "flat"), network.asked, strict=False)):
        assert len(found[name][0]) == len(found[name][1]) == 50
        assert (structure_classes(normal_hu)[asked] == i).all()
        assert unclipped(normal_hu)[asked].all()
        assert asked[0].min() >= 25
        # Spread over all there are, not the first ones.
        assert len(np.unique(asked[0])) > 20
    empty = kernels_by_class(network, normal_hu, np.full((60, 64), -1000.0))
    assert all(len(radius) == len(anisotropy) == 0 for radius, anisotropy in empty.values())


@pytest.fixture(scope="module")
def slices_hu():
    """A part of the torso at a quarter of the dose and without noise."""
    (truth_hu,) = torso(slices=1).volume_hu
    noise_hu = noise_field(truth_hu, 0.75, 24.0, SPECTRA["soft"], np.random.default_rng(4), PART)
    return truth_hu[PART] + noise_hu, truth_hu[PART]


def ratios(network, slices_hu):
    """Of the radius at flat pixels to that at edges and fine ones, and of the anisotropy at fine and flat pixels."""
    of = kernels_by_class(network, *slices_hu, pixels=200)
    radius, anisotropy = ({name: np.median(shapes[i]) for name, shapes in of.items()} for i in (0, 1))
    edge, fine = (radius["flat"] / radius[name] for name in ("edge", "fine"))
    return edge, fine, anisotropy["fine"] / anisotropy["flat"]


def test_kernels_of_a_trained_network_differ_between_flat_edge_and_fine_pixels(slices_hu):
    edge, fine, anisotropy = ratios(Denoiser("edge", threads=1), slices_hu)
    assert fine > LEAST_RADIUS_RATIO
    assert 1.05 < edge < fine
    assert anisotropy > LEAST_ANISOTROPY_RATIO


@pytest.mark.parametrize("preset", ["edge", "paper"])
def test_those_of_an_untrained_network_do_not(slices_hu, preset):
    keras.utils.set_random_seed(6)
    edge, fine, anisotropy = ratios(StructKPN(preset, blocks=1), slices_hu)
    assert fine < LEAST_RADIUS_RATIO
    assert edge == pytest.approx(1, abs=0.05)
    assert anisotropy < LEAST_ANISOTROPY_RATIO

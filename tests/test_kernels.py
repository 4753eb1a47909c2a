"""A workstation's `kernels_at`: out of the artefact, without TensorFlow, the kernels that Keras applies."""

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from export import Release, to_tflite
from kpn_tf import Denoiser
from kpn_tf.cli.networks import load_network
from kpn_tf.denoiser import NoKernelsError, artefact
from tests.command import BOX

EDGE = artefact.WEIGHTS_FOLDER / "edge.tflite"


@pytest.fixture(scope="module")
def edge():
    """The shipped network in Keras."""
    return load_network(EDGE.with_suffix(".keras"))


@pytest.fixture(scope="module")
def denoise():
    return Denoiser("edge", threads=1)


@pytest.fixture
def rng():
    return np.random.default_rng(20261122)


@pytest.mark.parametrize(("rows", "columns"), [(52, 44), (41, 63), (21, 30)])
def test_kernels_of_the_artefact_are_those_of_keras(denoise, edge, rng, rows, columns):
    slice_hu = rng.normal(40, 60, (rows, columns)).astype(np.float32)
    pixels = [0, rows - 1, rows // 2, 5, 6], [columns - 1, 0, columns // 2, 8, 9]
    kernels = denoise.kernels_at(slice_hu, *pixels)
    np.testing.assert_allclose(kernels, edge.kernels_at(slice_hu, *pixels), atol=1e-6)


def test_kernels_do_not_know_that_a_slice_was_cut_into_tiles(rng):
    slice_hu = rng.normal(40, 60, (260, 40)).astype(np.float32)
    denoise = Denoiser("edge", threads=1)
    pixels = [0, 130, 131, 259], [3, 20, 21, 39]
    whole = denoise.kernels_at(slice_hu, *pixels)
    denoise.artefact = replace(denoise.artefact, whole_side=1)
    assert len(denoise._tiles(260)) > 1
    np.testing.assert_allclose(denoise.kernels_at(slice_hu, *pixels), whole, atol=1e-6)


def test_kernels_of_a_weaker_denoiser_make_what_it_returns(denoise, rng):
    slice_hu = rng.normal(40, 60, (40, 44)).astype(np.float32)
    weaker = Denoiser("edge", threads=1, strength=0.4)
    (kernel,) = weaker.kernels_at(slice_hu, [20], [21])
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    delta = np.zeros((21, 21))
    delta[10, 10] = 1
    expected = 0.4 * denoise.kernels_at(slice_hu, [20], [21])[0] + 0.6 * delta
    np.testing.assert_allclose(kernel, expected, atol=1e-6)
    made_hu = (kernel * slice_hu[10:31, 11:32]).sum()
    assert made_hu == pytest.approx(weaker(slice_hu)[20, 21], abs=0.01)


def test_padding_is_air_to_the_kernels_too(denoise, edge, rng):
    slice_hu = rng.normal(40, 60, (32, 36)).astype(np.float32)
    padding = np.zeros(slice_hu.shape, bool)
    padding[:, :9] = True
    air_hu = np.where(padding, -1000, slice_hu)
    kernels = denoise.kernels_at(np.where(padding, np.nan, slice_hu), [16], [12], padding=padding)
    np.testing.assert_allclose(kernels, edge.kernels_at(air_hu, [16], [12]), atol=1e-6)


def test_kernels_in_half_precision_are_near_those_of_keras(edge, rng, tmp_path):
    to_tflite(edge, tmp_path / "half.tflite", Release("0", "Apache-2.0", "none"), side=100)
    slice_hu = rng.normal(40, 60, (64, 60)).astype(np.float32)
    kernels = Denoiser(tmp_path / "half.tflite", threads=1).kernels_at(slice_hu, [3, 30], [40, 31])
    np.testing.assert_allclose(kernels, edge.kernels_at(slice_hu, [3, 30], [40, 31]), atol=1e-3)


def test_a_file_that_does_not_tell_its_kernels_denoises_and_says_so(rng):
    denoise = Denoiser(BOX, threads=1)
    slice_hu = rng.normal(40, 60, (32, 36)).astype(np.float32)
    assert np.isfinite(denoise(slice_hu)).all()
    with pytest.raises(NoKernelsError, match=r"tells the shares of its filters. Received: box.tflite, which"):
        denoise.kernels_at(slice_hu, [3], [4])


def test_a_pixel_outside_has_no_kernel(denoise):
    with pytest.raises(ValueError, match=r"Expected pixels inside a slice of shape \(32, 36\)"):
        denoise.kernels_at(np.full((32, 36), 40.0), [32], [4])


def test_no_weights_lie_in_a_file_twice():
    model = schema.Model.GetRootAs(EDGE.read_bytes(), 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    large = [one.DataAsNumpy().tobytes() for one in buffers if one.DataLength() > 1000]
    assert len(set(large)) == len(large)
    # The second signature may cost the filters themselves, 56 KB, and some names.
    assert EDGE.stat().st_size < 1.05 * sum(map(len, set(large)))

"""What could be taken for a lesion where there is none is counted, and compared at equal noise."""

import numpy as np
import pytest

from kpn_tf.quality.blobs import BLOB_HU, BLOB_MM, BlobMeasures, blobs, flat_tissue
from tests.reference import slow_blobs

MM = 1.5


def disc(shape, row, column, radius_mm, contrast_hu):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return contrast_hu * (np.hypot(y - row, x - column) * MM <= radius_mm)


@pytest.mark.parametrize("noise_hu", [20.0, 60.0])
def test_blobs_are_those_of_the_definition(noise_hu):
    residual_hu = np.random.default_rng(3).normal(0, noise_hu, (41, 34))
    flat = np.random.default_rng(4).random(residual_hu.shape) < 0.8
    expected = slow_blobs.blobs(residual_hu, flat, MM, BLOB_MM, BLOB_HU)
    assert blobs(residual_hu, flat, MM) == expected
    assert expected > 0 or noise_hu < 60


def test_discs_of_a_lesions_size_count_by_their_contrast_and_of_either_sign():
    shape = (60, 70)
    everywhere = np.ones(shape, bool)
    # At the centre of a disc of 8 mm the mean is 86 % of its contrast.
    residual_hu = (
        disc(shape, 15, 15, 4.0, 13.0) + disc(shape, 40, 20, 4.0, -13.0) + disc(shape, 20, 50, 4.0, 11.0)
    )
    assert blobs(residual_hu, everywhere, MM) == 2
    assert blobs(residual_hu, everywhere & (np.arange(70) > 17), MM) == 1
    # Much smaller than a lesion: noise of single pixels.
    assert blobs(disc(shape, 15, 15, 0.5, 60.0), everywhere, MM) == 0


def test_edges_and_what_is_no_soft_tissue_do_not_count():
    truth_hu = np.full((60, 70), 50.0)
    truth_hu[:, 40:] = 300.0
    flat = flat_tissue(truth_hu, MM)
    assert flat[30, 30]
    assert not flat[:, 36:].any()


def test_a_denoiser_is_compared_with_the_slice_before_at_its_noise():
    rng = np.random.default_rng(5)
    truth_hu = np.full((60, 70), 50.0)
    measures = BlobMeasures(("before", "half", "invents"))
    regions = [(slice(10, 30), slice(10, 30))]
    for _ in range(4):
        noise = rng.normal(0, 60.0, truth_hu.shape)
        invented = disc(truth_hu.shape, 45, 50, 4.0, 40.0)
        slices_hu = {"before": noise, "half": noise / 2, "invents": noise / 4 + invented}
        measures.add(truth_hu, {kind: truth_hu + hu for kind, hu in slices_hu.items()}, regions, MM)
    found, fair = measures.quantities(0.25)
    assert found.values["half"].value == pytest.approx(fair.values["half"].value)
    assert found.values["before"].value == fair.values["before"].value > found.values["half"].value
    assert found.values["invents"].value > fair.values["invents"].value
    per_dm2 = 1e4 / (np.count_nonzero(flat_tissue(truth_hu, MM)) * MM**2)
    assert found.values["invents"].value - fair.values["invents"].value == pytest.approx(per_dm2, rel=0.5)

import numpy as np
import pytest

from kpn_tf.dose.along_z import MOST_CORRELATION, correlated_along_z, side_tap
from kpn_tf.metrics import noise_correlation_along_z
from kpn_tf.training.data.folders import volumes


def white(slices, seed=0):
    return np.random.default_rng(seed).normal(0, 20, (slices, 96, 96)).astype("float32")


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_filtered_noise_has_the_correlation_and_keeps_its_strength(correlation):
    noise = correlated_along_z(white(42), correlation)
    a = side_tap(correlation)
    assert noise.shape == (40, 96, 96)
    assert noise.std() == pytest.approx(20, rel=0.02)
    neighbours, next_but_one = (np.mean(noise[:-d] * noise[d:]) / noise.var() for d in (1, 2))
    assert neighbours == pytest.approx(correlation, abs=0.02)
    # Three taps a, 1, a give a^2 / (1 + 2 a^2) at two slices.
    assert next_but_one == pytest.approx(a**2 / (1 + 2 * a**2), abs=0.02)


def test_a_correlation_that_three_taps_cannot_give_is_refused():
    assert side_tap(MOST_CORRELATION) == pytest.approx(np.sqrt(0.5), rel=1e-3)
    with pytest.raises(ValueError, match=r"from 0 to 0.707. Received: 0.8"):
        side_tap(0.8)


def test_the_measure_finds_the_correlation_of_filtered_noise_and_ignores_anatomy():
    noise = correlated_along_z(white(14), 0.4)
    body = np.zeros((96, 96), "float32")
    body[:, 48:] = 300  # a bone: no box across it is flat
    measured = noise_correlation_along_z(60 + body + noise, 1.0)
    assert measured == pytest.approx([0.4, 0.05, 0.0], abs=0.05)


def test_without_flat_tissue_there_is_no_correlation():
    assert np.isnan(noise_correlation_along_z(np.full((3, 64, 64), -1000.0), 1.0)).all()


# Measured in these series (README.md of the data): correlation at distances of one, two and three slices.
@pytest.mark.parametrize(
    ("name", "expected"),
    [("lidc_0013_abdomen_2.5mm", [0.28, 0.04, 0.02]), ("rider_0109_abdomen_chest_5mm", [0.19, 0.01, 0.01])],
)
def test_the_correlation_of_real_series_is_that_of_the_table(name, expected, ct_data):
    found = volumes(ct_data / "normal_dose" / name, lambda line, failure: None)
    _, volume_hu, pixel_mm, _ = max(found, key=lambda one: len(one[1]))
    assert noise_correlation_along_z(volume_hu[10:26], pixel_mm) == pytest.approx(expected, abs=0.1)

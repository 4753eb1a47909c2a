"""BM3D removes noise, keeps the mean, takes any size, and says whose it is."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

from baselines import bm3d
from baselines.bm3d import BM3D, LicenceWarning
from tests.noisy_torso import noisy_volume

# The notice itself is tested below; elsewhere it would come first from whichever test happens to be first.
pytestmark = pytest.mark.filterwarnings("ignore::baselines.bm3d.LicenceWarning")


def noisy(shape, seed=3):
    return (60 + np.random.default_rng(seed).normal(0, 25, shape)).astype(np.float32)


def test_noise_drops_to_a_fraction_and_the_mean_stays():
    slice_hu = noisy((48, 61))
    denoised_hu = BM3D(25.0)(slice_hu)
    assert denoised_hu.dtype == np.float32
    assert denoised_hu.std() < 0.2 * slice_hu.std()
    # The noise of the mean of 48 x 61 pixels is 0.46 HU.
    assert denoised_hu.mean() == pytest.approx(slice_hu.mean(), abs=0.5)


def test_an_edge_survives():
    slice_hu = noisy((48, 61))
    slice_hu[:, 30:] -= 1000
    denoised_hu = BM3D(25.0)(slice_hu)
    assert (denoised_hu[:, 29] - denoised_hu[:, 30]).mean() == pytest.approx(1000, abs=30)


def test_more_sigma_removes_more():
    slice_hu = noisy_volume()[0]
    changes_hu = [np.abs(BM3D(sigma_hu)(slice_hu) - slice_hu).mean() for sigma_hu in (3.0, 12.0)]
    assert changes_hu[0] < 0.5 * changes_hu[1]


@pytest.mark.parametrize("shape", [(11, 7), (8, 8), (1, 1), (5, 61)])
def test_a_slice_smaller_than_a_block_is_denoised_as_well(shape):
    denoised_hu = BM3D(25.0)(noisy(shape))
    assert denoised_hu.shape == shape
    assert np.isfinite(denoised_hu).all()


def test_the_slice_given_is_left_alone():
    slice_hu = noisy((40, 43))
    before = slice_hu.copy()
    BM3D(25.0)(slice_hu)
    np.testing.assert_array_equal(slice_hu, before)


def test_the_licence_is_named_once_per_process():
    bm3d._name_licence.cache_clear()
    with pytest.warns(LicenceWarning, match="non-commercial purposes only"):
        BM3D(25.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BM3D(30.0)


def test_a_missing_extra_is_one_line_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(
        ImportError, match=r"^BM3D needs the baselines extra: pip install 'kpn-tf\[baselines\]'$"
    ):
        BM3D(25.0)


def test_importing_the_baseline_does_not_load_the_package():
    code = "import sys, baselines.bm3d; print('bm3d' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.parametrize("sigma_hu", [0, -1, np.nan, np.inf])
def test_a_sigma_that_is_not_positive_is_refused(sigma_hu):
    with pytest.raises(ValueError, match="Expected sigma_hu above 0"):
        BM3D(sigma_hu)


@pytest.mark.parametrize(
    "slice_hu",
    [np.zeros((1, 40, 40)), np.zeros((0, 40)), np.full((40, 40), np.nan)],
    ids=["3-D", "empty", "NaN"],
)
def test_what_is_no_finite_slice_is_refused(slice_hu):
    with pytest.raises(ValueError, match=r"Expected a finite slice of shape \(H, W\)"):
        BM3D(25.0)(slice_hu)

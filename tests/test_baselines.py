"""BM3D removes noise, keeps the mean, takes any size, and says whose it is; calibration reads noise of any texture."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

from baselines import bm3d, ksvd, packages
from baselines.bm3d import BM3D
from baselines.bm4d import BM4D
from baselines.calibration import calibrated_sigma_hu
from baselines.ksvd import KSVD
from baselines.packages import LicenceWarning
from kpn_tf.denoiser import Neighbour
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.evaluation import simulated_pairs
from kpn_tf.metrics import psnr
from tests.noisy_torso import noisy_volume

# The notice itself is tested below; elsewhere it would come first from whichever test happens to be first.
pytestmark = pytest.mark.filterwarnings("ignore::baselines.packages.LicenceWarning")


@pytest.fixture(autouse=True)
def little_learning(monkeypatch):
    """K-SVD learns less, so that a test takes no longer than it must."""
    monkeypatch.setattr(ksvd, "SAMPLE", 1500)
    monkeypatch.setattr(ksvd, "ITERATIONS", 2)


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


def test_bm4d_takes_more_noise_with_neighbours_than_alone_and_leaves_all_as_they_are():
    volume_hu = 50 + np.random.default_rng(6).normal(0, 30.0, (5, 30, 34))
    before_hu = volume_hu.copy()
    beside = [Neighbour(volume_hu[z], 1.0 * abs(z - 2)) for z in (0, 1, 3, 4)]
    padding = np.zeros((30, 34), bool)
    padding[:3] = True
    with pytest.warns(LicenceWarning, match="BM4D: .* non-commercial purposes only"):
        denoise = BM4D(30.0)
    assert denoise.slices == 5
    among, end, alone = (
        denoise(volume_hu[2], padding, near) for near in (beside, [None, None, *beside[2:]], ())
    )
    np.testing.assert_array_equal(volume_hu, before_hu)
    np.testing.assert_array_equal(among[:3], volume_hu[2, :3].astype("float32"))
    errors_hu = [np.std(one[3:] - 50) for one in (among, end, alone)]
    assert errors_hu[0] < errors_hu[1] < errors_hu[2] < 30
    assert errors_hu[0] < 15


def test_the_licence_is_named_once_per_process():
    packages.warn_of_licence.cache_clear()
    with pytest.warns(LicenceWarning, match="non-commercial purposes only"):
        BM3D(25.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BM3D(30.0)


def test_a_missing_extra_is_one_line_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(
        ImportError, match=r"^BM3D needs the baselines extra: in a checkout, pip install '\.\[baselines\]'$"
    ):
        BM3D(25.0)


def test_importing_the_baseline_does_not_load_the_package():
    code = "import sys, baselines.bm3d; print('bm3d' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.parametrize("denoiser", [BM3D, KSVD])
@pytest.mark.parametrize("sigma_hu", [0, -1, np.nan, np.inf])
def test_a_sigma_that_is_not_positive_is_refused(denoiser, sigma_hu):
    with pytest.raises(ValueError, match="Expected sigma_hu above 0"):
        denoiser(sigma_hu)


@pytest.mark.parametrize(
    "slice_hu",
    [np.zeros((1, 40, 40)), np.zeros((0, 40)), np.full((40, 40), np.nan)],
    ids=["3-D", "empty", "NaN"],
)
@pytest.mark.parametrize("denoiser", [BM3D, KSVD])
def test_what_is_no_finite_slice_is_refused(denoiser, slice_hu):
    with pytest.raises(ValueError, match=r"Expected a finite slice of shape \(H, W\)"):
        denoiser(25.0)(slice_hu)


def coloured(shape, texture, noise_hu, seed=4):
    """Noise of a CT kernel's texture at 0.7 mm, as strong everywhere."""
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side, 0.7) for side in shape), indexing="ij"))
    white = np.fft.fft2(np.random.default_rng(seed).standard_normal(shape))
    noise = np.fft.ifft2(white * np.sqrt(SPECTRA[texture].at(frequency))).real
    return noise_hu * noise / noise.std()


@pytest.mark.parametrize("texture", ["soft", "sharp"])
def test_sigma_is_the_factor_times_the_noise_whatever_its_texture(texture):
    slice_hu = 50 + coloured((160, 163), texture, 20.0)
    assert calibrated_sigma_hu(slice_hu, 1.5) == pytest.approx(1.5 * 20, rel=0.1)


def test_the_median_absolute_deviation_of_the_finest_detail_would_read_less_than_half_of_it():
    noise = coloured((160, 163), "soft", 20.0)
    detail = np.diff(np.diff(noise, axis=0), axis=1) / 2  # Haar, of unit gain
    assert np.median(np.abs(detail)) / 0.6745 < 0.5 * 20


def test_bone_and_air_beside_the_tissue_do_not_count_as_noise():
    slice_hu = noisy((120, 131))
    slice_hu[:, 70:90] += 800
    slice_hu[:, 100:] -= 1000
    assert calibrated_sigma_hu(slice_hu, 1.0) == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize(
    "slice_hu",
    [noisy((64, 61)) - 1000, noisy((64, 61)) + 800, noisy((20, 61)), noisy((61, 20)), noisy((1, 1))],
    ids=["air", "bone", "few rows", "few columns", "one pixel"],
)
def test_a_slice_without_flat_tissue_is_taken_to_have_the_noise_of_a_usual_quarter_dose(slice_hu):
    assert calibrated_sigma_hu(slice_hu, 1.25) == 1.25 * 32


@pytest.mark.parametrize("denoiser", [BM3D, KSVD])
def test_a_slice_that_was_drawn_comes_back_as_it_is(denoiser):
    drawn_hu = np.full((64, 61), 50.0, np.float32)
    drawn_hu[30:] = 90
    denoised_hu = denoiser()(drawn_hu)
    np.testing.assert_array_equal(denoised_hu, drawn_hu)
    assert denoised_hu is not drawn_hu


def test_without_a_sigma_ksvd_takes_that_of_each_slice():
    calibrated = KSVD()
    for slice_hu in (noisy((64, 61)), (noisy((64, 61)) + 60) / 2):
        given = KSVD(calibrated_sigma_hu(slice_hu, ksvd.FACTOR))
        np.testing.assert_allclose(calibrated(slice_hu), given(slice_hu), atol=1e-3)


def test_without_a_sigma_bm3d_takes_that_of_each_slice_and_leaves_a_share_of_it():
    for slice_hu in (noisy((64, 61)), (noisy((64, 61)) + 60) / 2):
        whole = BM3D(calibrated_sigma_hu(slice_hu, bm3d.FACTOR))(slice_hu)
        # The threads of bm3d add up in any order.
        expected = (1 - bm3d.NOISY) * whole + bm3d.NOISY * slice_hu
        np.testing.assert_allclose(BM3D()(slice_hu), expected, atol=0.01)


@pytest.mark.parametrize("denoiser", [BM3D, KSVD])
def test_a_quarter_dose_of_a_real_slice_gains(ct_data, denoiser):
    folder = ct_data / "normal_dose" / "crlm_1006_abdomen"
    pair = next(simulated_pairs(folder, dose=0.25, seed=0, every=51, note=lambda *_: None).pairs)
    inside = np.s_[170:300, 190:331]
    low_hu, normal_hu = pair.low_hu[inside], pair.normal_hu[inside]
    low_db, db = (psnr(normal_hu, hu, convention="soft") for hu in (low_hu, denoiser()(low_hu)))
    assert db > low_db + 2.5

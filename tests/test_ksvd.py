"""K-SVD codes patches as its definition says, learns from the slice, removes noise and takes any size."""

import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl

from baselines import ksvd
from baselines.ksvd import KSVD, pursuit
from tests.reference import slow_ksvd


@pytest.fixture(autouse=True)
def little_learning(monkeypatch):
    """Learns less, so that a test takes no longer than it must."""
    monkeypatch.setattr(ksvd, "SAMPLE", 800)
    monkeypatch.setattr(ksvd, "ITERATIONS", 2)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


def noisy(shape, seed=3):
    return (60 + np.random.default_rng(seed).normal(0, 25, shape)).astype(np.float32)


def striped(shape):
    rows, columns = np.indices(shape)
    return (200 * (np.sin(0.9 * rows + 0.5 * columns) > 0.6) + noisy(shape)).astype(np.float32)


def unit_rows(rng, rows, columns):
    atoms = rng.normal(size=(rows, columns))
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


@pytest.mark.parametrize("bound", [0.01, 1.0, 9.0, 100.0])
def test_signals_are_coded_as_one_after_the_other_would_be(bound):
    rng = np.random.default_rng(5)
    dictionary, signals = unit_rows(rng, 23, 9), rng.normal(size=(40, 9))
    slow = [slow_ksvd.pursuit(signal, dictionary, bound, ksvd.MOST_ATOMS) for signal in signals]
    np.testing.assert_allclose(pursuit(signals, dictionary, bound), slow, atol=1e-9)


def test_a_code_leaves_no_more_than_the_bound_and_is_empty_where_nothing_had_to_go():
    rng = np.random.default_rng(6)
    dictionary, signals = unit_rows(rng, 100, 16), rng.normal(size=(300, 16))
    codes = pursuit(signals, dictionary, 12.0)
    assert np.sum((signals - codes @ dictionary) ** 2, axis=1).max() <= 12.0
    within = np.sum(signals**2, axis=1) <= 12.0
    assert 0 < within.sum() < 300
    np.testing.assert_array_equal(np.any(codes, axis=1), ~within)


def test_a_signal_gets_no_more_than_32_atoms():
    rng = np.random.default_rng(7)
    codes = pursuit(rng.normal(size=(3, 64)), unit_rows(rng, 256, 64), 1e-12)
    assert np.count_nonzero(codes, axis=1).tolist() == [32, 32, 32]


def test_what_no_atom_goes_with_is_left():
    codes = pursuit(np.array([[3.0, 4.0, 0.0], [0.0, 4.0, 0.0]]), np.eye(3)[[0, 0, 2]], 1.0)
    np.testing.assert_array_equal(codes, [[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


def test_no_signals_are_coded_too():
    assert pursuit(np.zeros((0, 9)), np.eye(9), 1.0).shape == (0, 9)


@pytest.mark.parametrize("together", [1, 13, 4096])
def test_patches_are_averaged_as_one_after_the_other_would_be(monkeypatch, together):
    monkeypatch.setattr(ksvd, "_TOGETHER", together)
    slice_hu, bound = noisy((19, 13)).astype(float), (1.15 * 10) ** 2 * 64
    dictionary = ksvd._cosines()
    slow_hu = slow_ksvd.average(slice_hu, dictionary, bound, 8, ksvd.MOST_ATOMS, ksvd.NOISY)
    np.testing.assert_allclose(ksvd._average(slice_hu, dictionary, bound), slow_hu, atol=1e-9)


def test_it_starts_from_waves_of_unit_norm_of_which_one_alone_has_a_mean():
    waves = ksvd._cosines()
    assert waves.shape == (256, 64)
    np.testing.assert_allclose(np.linalg.norm(waves, axis=1), 1)
    assert np.flatnonzero(np.abs(waves.mean(axis=1)) > 1e-12).tolist() == [0]


def test_learnt_atoms_say_with_fewer_what_the_waves_say():
    slice_hu = striped((64, 61))
    bound = (1.15 * 25) ** 2 * 64
    learnt = KSVD(25.0)._learnt(slice_hu.astype(float), bound)
    np.testing.assert_allclose(np.linalg.norm(learnt, axis=1), 1)
    patches = np.lib.stride_tricks.sliding_window_view(slice_hu, (8, 8)).reshape(-1, 64)[::7]
    patches = patches - patches.mean(axis=1, keepdims=True)
    taken = [
        np.count_nonzero(pursuit(patches, dictionary, bound)) for dictionary in (ksvd._cosines(), learnt)
    ]
    assert taken[1] < 0.7 * taken[0]


def test_noise_drops_to_little_more_than_the_share_of_the_noisy_slice_and_the_mean_stays():
    slice_hu = noisy((48, 61))
    denoised_hu = KSVD(25.0)(slice_hu)
    assert denoised_hu.dtype == np.float32
    share = ksvd.NOISY / (ksvd.NOISY + 64)
    assert share < denoised_hu[8:-8, 8:-8].std() / slice_hu.std() < share + 0.1
    # The noise of the mean of 48 x 61 pixels is 0.46 HU.
    assert denoised_hu.mean() == pytest.approx(slice_hu.mean(), abs=0.5)


def test_an_edge_survives():
    slice_hu = noisy((48, 61))
    slice_hu[:, 30:] -= 1000
    denoised_hu = KSVD(25.0)(slice_hu)
    assert (denoised_hu[:, 29] - denoised_hu[:, 30]).mean() == pytest.approx(1000, abs=30)


def test_more_sigma_removes_more():
    slice_hu = striped((40, 43))
    changes_hu = [np.abs(KSVD(sigma_hu)(slice_hu) - slice_hu).mean() for sigma_hu in (15.0, 30.0)]
    assert changes_hu[0] < 0.8 * changes_hu[1]


def test_a_slice_has_one_result_whatever_came_before_and_each_seed_its_own():
    slice_hu = striped((40, 43))
    denoise = KSVD(25.0)
    first_hu = denoise(slice_hu)
    denoise(slice_hu[:30])
    np.testing.assert_array_equal(denoise(slice_hu), first_hu)
    assert 0 < np.abs(KSVD(25.0, seed=1)(slice_hu) - first_hu).mean() < 5


@pytest.mark.parametrize("shape", [(11, 7), (8, 8), (1, 1), (5, 61)])
def test_a_slice_smaller_than_a_patch_is_denoised_as_well(shape):
    denoised_hu = KSVD(25.0)(noisy(shape))
    assert denoised_hu.shape == shape
    assert np.isfinite(denoised_hu).all()


def test_the_slice_given_is_left_alone():
    slice_hu = noisy((40, 43))
    before = slice_hu.copy()
    KSVD(20.0)(slice_hu)
    np.testing.assert_array_equal(slice_hu, before)


@pytest.mark.parametrize("module", ["dictlearn", "threadpoolctl"])
def test_a_missing_extra_is_one_line_that_names_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=r"^K-SVD needs the baselines extra: in a checkout, pip install '\.\[baselines\]'$"
    ):
        KSVD()


def test_importing_the_baseline_does_not_load_the_package():
    code = "import sys, baselines.ksvd; print('dictlearn' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"

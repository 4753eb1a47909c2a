"""The dose of a series is lowered by noise of its own strength, slice by slice, in any order."""

from dataclasses import replace

import numpy as np
import pytest

from kpn_tf.dicom import CTSlice, find_series, read_slice
from kpn_tf.dose import low_dose as module
from kpn_tf.dose.low_dose import LowDoseError, low_dose, measured_slices, texture_sha256
from kpn_tf.metrics import flat_regions, regional_noise_std_hu
from tests.noisy_torso import NOISE_HU, noisy_volume, write_torso


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    write_torso(folder)
    (series,), _ = find_series(folder)
    return series


def lowered(scan, index, **how):
    file = scan.slices[index]
    ct = read_slice(file.path)
    lower = low_dose((scan,), **{"dose": 0.25, "seed": 0} | how)
    return lower(ct, scan.pixel_spacing_mm, file.sop_instance_uid), ct


@pytest.mark.parametrize(("dose", "ratio"), [(0.25, 3**0.5), (0.5, 1.0)])
def test_the_missing_dose_adds_the_variance_it_would_have_kept_away(scan, dose, ratio):
    low_hu, ct = lowered(scan, 1, dose=dose)
    boxes = flat_regions(ct.slice_hu, scan.pixel_spacing_mm)
    own_hu = low_dose((scan,), dose=dose, seed=0).noise.std_hu
    assert regional_noise_std_hu(low_hu - ct.slice_hu, boxes) == pytest.approx(ratio * own_hu, rel=0.01)
    # The flattest boxes of six by six pixels: somewhat below what was put in.
    assert 0.7 * NOISE_HU < own_hu < 1.1 * NOISE_HU


def test_the_noise_follows_from_seed_and_slice_alone(scan):
    low_hu, _ = lowered(scan, 1)
    lower = low_dose((scan,), dose=0.25, seed=0)
    for index in (2, 0, 1):
        file = scan.slices[index]
        again_hu = lower(read_slice(file.path), scan.pixel_spacing_mm, file.sop_instance_uid)
    np.testing.assert_array_equal(again_hu, low_hu)
    other_seed_hu, ct = lowered(scan, 1, seed=1)
    noise, other_noise = low_hu - ct.slice_hu, other_seed_hu - ct.slice_hu
    assert abs(np.corrcoef(noise.ravel(), other_noise.ravel())[0, 1]) < 0.05


def test_two_slices_of_a_series_get_different_noise(scan):
    (a_hu, a), (b_hu, b) = lowered(scan, 0), lowered(scan, 1)
    assert abs(np.corrcoef((a_hu - a.slice_hu).ravel(), (b_hu - b.slice_hu).ravel())[0, 1]) < 0.05


def test_padding_is_untouched_and_no_ray_passes_through_it(scan):
    file = scan.slices[1]
    ct = read_slice(file.path)
    lower = low_dose((scan,), dose=0.25, seed=0)
    results = []
    for fill_hu in (-3024.0, -2000.0):
        padding = np.zeros(ct.slice_hu.shape, bool)
        padding[:9, :7] = True
        padded = CTSlice(ct.dataset, np.where(padding, fill_hu, ct.slice_hu), padding)
        low_hu = lower(padded, scan.pixel_spacing_mm, file.sop_instance_uid)
        assert (low_hu[padding] == fill_hu).all()
        results.append(low_hu[~padding])
    np.testing.assert_array_equal(*results)


def test_the_slice_given_is_left_alone(scan):
    ct = read_slice(scan.slices[0].path)
    before = ct.slice_hu.copy()
    low_dose((scan,), dose=0.25, seed=0)(ct, scan.pixel_spacing_mm, "1.2.3")
    np.testing.assert_array_equal(ct.slice_hu, before)


def test_sixteen_evenly_spaced_slices_of_the_longest_part_are_measured_however_long_it_is(scan):
    long = replace(scan, slices=tuple(replace(scan.slices[0], sop_instance_uid=str(i)) for i in range(316)))
    assert [file.sop_instance_uid for file in measured_slices((scan, long))] == [
        str(21 * i) for i in range(16)
    ]
    assert measured_slices((scan,)) == scan.slices


def test_no_more_than_the_measured_slices_are_read(scan, monkeypatch):
    long = replace(scan, slices=scan.slices * 20)
    read = []
    monkeypatch.setattr(module, "read_slice", lambda *file: (read.append(file), read_slice(*file))[1])
    low_dose((long,), dose=0.25, seed=0)
    assert len(read) == 16


def test_a_part_of_a_series_is_another_source_of_texture(scan):
    part = replace(scan, slices=scan.slices[:2])
    assert texture_sha256((scan,)) != texture_sha256((part,))
    assert texture_sha256((scan,)) == texture_sha256((scan, part))


def test_slices_that_cannot_be_read_are_left_out_of_the_measurement(tmp_path):
    paths = write_torso(tmp_path)
    (series,), _ = find_series(tmp_path)
    paths[0].write_bytes(paths[0].read_bytes()[:-700])
    assert low_dose((series,), dose=0.25, seed=0).noise.std_hu > 0
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(LowDoseError, match="none of its slices can be read"):
        low_dose((series,), dose=0.25, seed=0)


@pytest.mark.parametrize(
    ("volume_hu", "reason"),
    [
        (np.full((1, 96, 128), -1000.0), "no flat soft tissue"),
        (np.full((1, 96, 128), 40.0), "no noise in its flat soft tissue"),
        (
            np.stack([np.full((96, 128), 40.0)] * 2 + [noisy_volume()[0]]),
            "no noise in its flat soft tissue",
        ),
    ],
    ids=["air", "drawn", "mostly drawn"],
)
def test_a_series_without_soft_tissue_or_noise_is_refused(tmp_path, volume_hu, reason):
    write_torso(tmp_path, volume_hu)
    (series,), _ = find_series(tmp_path)
    with pytest.raises(LowDoseError, match=reason):
        low_dose((series,), dose=0.25, seed=0)


def test_pixels_that_are_not_square_are_refused(tmp_path):
    write_torso(tmp_path, noisy_volume()[:1], changes={"PixelSpacing": [2.8, 2.2]})
    (series,), _ = find_series(tmp_path)
    with pytest.raises(LowDoseError, match=r"pixels are 2\.8 x 2\.2 mm, not square"):
        low_dose((series,), dose=0.25, seed=0)

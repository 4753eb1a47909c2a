"""The dose of a series is lowered by noise of its own strength, slice by slice, in any order."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from kpn_tf.dicom import find_series, read_slice
from kpn_tf.dose import low_dose as module
from kpn_tf.dose.along_z import correlated_along_z, side_tap
from kpn_tf.dose.low_dose import LowDoseError, low_dose, texture_sha256
from kpn_tf.metrics import flat_regions, regional_noise_std_hu
from kpn_tf.training.data.folders import normal_dose_series, training_folder, validation_folder
from tests.ct_series import uid
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
    own_hu = low_dose((scan,), dose=dose, seed=0).noises[scan.slices[1].sop_instance_uid].std_hu
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


def test_slices_of_independent_noise_get_different_noise(scan):
    (a_hu, a), (b_hu, b) = lowered(scan, 0), lowered(scan, 1)
    assert abs(np.corrcoef((a_hu - a.slice_hu).ravel(), (b_hu - b.slice_hu).ravel())[0, 1]) < 0.1


def test_padding_is_untouched_and_no_ray_passes_through_it(scan):
    file = scan.slices[1]
    ct = read_slice(file.path)
    lower = low_dose((scan,), dose=0.25, seed=0)
    results = []
    for fill_hu in (-3024.0, -2000.0):
        padding = np.zeros(ct.slice_hu.shape, bool)
        padding[:9, :7] = True
        padded = replace(ct, slice_hu=np.where(padding, fill_hu, ct.slice_hu), padding=padding)
        low_hu = lower(padded, scan.pixel_spacing_mm, file.sop_instance_uid)
        assert (low_hu[padding] == fill_hu).all()
        results.append(low_hu[~padding])
    np.testing.assert_array_equal(*results)


def test_the_slice_given_is_left_alone(scan):
    ct = read_slice(scan.slices[0].path)
    before = ct.slice_hu.copy()
    lower = low_dose((scan,), dose=0.25, seed=0)
    lower(ct, scan.pixel_spacing_mm, scan.slices[0].sop_instance_uid)
    np.testing.assert_array_equal(ct.slice_hu, before)


def test_of_a_long_series_pairs_of_neighbours_are_read_evenly_spaced_however_long_it_is(scan, monkeypatch):
    monkeypatch.setattr(module, "MEASURED_SLICES", 8)
    long = replace(
        scan,
        slices=tuple(
            replace(scan.slices[i % 3], position_mm=3.0 * i, sop_instance_uid=str(i), frame=i)
            for i in range(32)
        ),
    )
    read = []
    monkeypatch.setattr(module, "read_slice", lambda path, frame: (read.append(frame), read_slice(path))[1])
    low_dose((long,), dose=0.25, seed=0)
    assert read == [0, 1, 10, 11, 20, 21, 30, 31]
    read.clear()
    low_dose((scan,), dose=0.25, seed=0)
    assert len(read) == 3


def test_a_part_of_a_series_is_another_source_of_texture(scan):
    part = replace(scan, slices=scan.slices[:2])
    assert texture_sha256((scan,)) != texture_sha256((part,))


def test_slices_that_cannot_be_read_are_left_out_of_the_measurement(tmp_path):
    paths = write_torso(tmp_path)
    (series,), _ = find_series(tmp_path)
    paths[0].write_bytes(paths[0].read_bytes()[:-700])
    noises = low_dose((series,), dose=0.25, seed=0).noises
    # The one that cannot be read has what is measured beside it: it is named when its turn comes.
    assert noises.keys() == {file.sop_instance_uid for file in series.slices}
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


def mixed_scan(folder, change):
    """Eight slices with 12 HU of noise, then eight with 6; `change` gives what is particular to slice `i`."""

    def header(i):
        told = {"SliceThickness": 5, "AcquisitionNumber": 1, "PixelSpacing": [1.2, 1.2]} | change(i)
        told["ImagePositionPatient"] = [0, 0, 5.0 * told.pop("position", i)]
        uids = {name: uid("mixed", name) for name in ("SeriesInstanceUID", "StudyInstanceUID")}
        return told | uids | {"SOPInstanceUID": uid("mixed", i), "InstanceNumber": i + 1}

    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:112, :128]
    body = np.hypot((rows - 56) / 46, (columns - 64) / 55) < 1
    for i in range(16):
        noise = gaussian_filter(rng.standard_normal(body.shape), 0.7)
        slice_hu = np.where(body, 50.0, -1000.0) + noise * ((12 if i < 8 else 6) / noise.std())
        write_torso(folder / f"{i}", slice_hu[None], changes=header(i))
    (series,), _ = find_series(folder)
    return series


@pytest.mark.parametrize(
    "change",
    [
        lambda i: {"SliceThickness": 4 if i < 8 else 7},
        lambda i: {},
        lambda i: {"AcquisitionNumber": 1 + i // 8, "position": i % 8},
        lambda i: {"AcquisitionNumber": 1 + i},
    ],
    ids=["thickness", "tube current", "two phases in one place", "sequential"],
)
def test_where_the_noise_changes_inside_a_series_so_does_the_noise_that_is_added(tmp_path, change):
    series = mixed_scan(tmp_path, change)
    lower = low_dose((series,), dose=0.25, seed=0)
    for file in series.slices:
        ct = read_slice(file.path)
        boxes = flat_regions(ct.slice_hu, series.pixel_spacing_mm)
        low_hu = lower(ct, series.pixel_spacing_mm, file.sop_instance_uid)
        added_hu = regional_noise_std_hu(low_hu - ct.slice_hu, boxes)
        true_hu = 12 if int(file.path.parent.name) < 8 else 6
        # A quarter of the dose is twice the noise: three parts of variance more.
        assert (added_hu**2 / true_hu**2 + 1) ** 0.5 == pytest.approx(2.0, rel=0.1)


def test_a_step_in_tube_current_is_a_step_in_the_noise_that_trains(tmp_path):
    mixed_scan(tmp_path / "in", lambda i: {})
    slices = training_folder(
        tmp_path / "in", 64, np.random.default_rng(3), scratch=tmp_path / "store", note=pytest.fail
    )
    strengths_hu = [one.noise_std_hu for one in slices]
    assert strengths_hu[:6] == pytest.approx([12.0] * 6, rel=0.15)
    assert strengths_hu[-6:] == pytest.approx([6.0] * 6, rel=0.15)


def thin_scan(folder, correlation, steps_mm):
    """Slices of a flat body, 1.2 mm a pixel, with noise of 12 HU that is correlated so from one to the next."""
    rng = np.random.default_rng(11)
    rows, columns = np.mgrid[:112, :128]
    body = np.hypot((rows - 56) / 46, (columns - 64) / 55) < 1
    white = rng.standard_normal((len(steps_mm) + 3, *body.shape)).astype("float32")
    noise = correlated_along_z(np.stack([gaussian_filter(field, 0.7) for field in white]), correlation)
    for i, position_mm in enumerate(np.cumsum([0, *steps_mm])):
        slice_hu = np.where(body, 50.0, -1000.0) + noise[i] * (12 / noise[i].std())
        header = {
            "ImagePositionPatient": [0, 0, float(position_mm)],
            "SliceThickness": 1,
            "InstanceNumber": i + 1,
        }
        uids = {name: uid("thin", name) for name in ("SeriesInstanceUID", "StudyInstanceUID")}
        header |= uids | {"SOPInstanceUID": uid("thin", i), "PixelSpacing": [1.2, 1.2]}
        write_torso(folder / f"{i}", slice_hu[None], changes=header)
    (series,), _ = find_series(folder)
    return series


def added_noise(series, parts=None):
    """What a quarter of the dose adds in the middle of each slice, `(Z, h, w)`."""
    lower, added = low_dose(parts or (series,), dose=0.25, seed=0), []
    for file in series.slices:
        ct = read_slice(file.path, file.frame)
        low_hu = lower(ct, series.pixel_spacing_mm, file.sop_instance_uid)
        added.append((low_hu - ct.slice_hu)[30:-30, 30:-30])
    return lower, np.stack(added)


def correlation_at(added, distance):
    return np.corrcoef(added[:-distance].ravel(), added[distance:].ravel())[0, 1]


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_noise_of_neighbours_is_correlated_as_in_the_series(tmp_path, correlation):
    series = thin_scan(tmp_path, correlation, [1.0] * 9)
    lower, added = added_noise(series)
    (measured,) = {noise.correlation for noise in lower.noises.values()}
    assert measured == pytest.approx(correlation, abs=0.05)
    assert correlation_at(added, 1) == pytest.approx(correlation, abs=0.08)
    # Three taps a, 1, a give a^2 / (1 + 2 a^2) at two slices.
    a = side_tap(correlation)
    assert correlation_at(added, 2) == pytest.approx(a**2 / (1 + 2 * a**2), abs=0.08)


def test_behind_a_gap_and_at_one_position_the_noise_is_another(tmp_path):
    series = thin_scan(tmp_path, 0.5, [1.0, 1.0, 3.0, 1.0, 1.0, 0.0, 1.0])
    _, added = added_noise(series)
    pairs = [correlation_at(added[i : i + 2], 1) for i in range(7)]
    expected = [0.5, 0.5, 0.0, 0.5, 0.5, 0.0, 0.5]
    assert pairs == pytest.approx(expected, abs=0.2)


# Measured in these series (README.md of the data): correlation at distances of one and two slices.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lidc_0013_abdomen_2.5mm", (0.28, 0.04)),
        pytest.param("lidc_0314_chest_1mm", (0.22, 0.04), marks=pytest.mark.slow),
        pytest.param("rider_0117_chest_thin", (0.52, 0.14), marks=pytest.mark.slow),
        pytest.param("lungfcp_0001_chest_2mm", (0.70, 0.29), marks=pytest.mark.slow),
    ],
)
def test_the_simulated_noise_of_real_series_is_correlated_as_in_the_table(name, expected, ct_data):
    found, _ = find_series(ct_data / "normal_dose" / name)
    series = max(found, key=lambda one: len(one.slices))
    series = replace(series, slices=series.slices[10:26])
    lower, added = added_noise(replace(series, slices=series.slices[4:9]), (series,))
    assert lower.noises[series.slices[4].sop_instance_uid].correlation == pytest.approx(expected[0], abs=0.1)
    for distance, value in enumerate(expected, 1):
        assert correlation_at(added, distance) == pytest.approx(value, abs=0.1)


def test_thin_and_thick_slices_of_a_series_are_trained_and_judged_on_apart(tmp_path):
    mixed_scan(tmp_path, lambda i: {"SliceThickness": 4 if i < 8 else 7})
    parts = [series for _, series in normal_dose_series(tmp_path, pytest.fail)]
    assert [[file.thickness_mm for file in part.slices] for part in parts] == [[4.0] * 8, [7.0] * 8]
    pairs = validation_folder(tmp_path, np.random.default_rng(0), note=pytest.fail)
    own = [pair for pair in pairs if pair.name.endswith("own noise")]
    assert len(own) == 12
    for pair, true_hu in zip(own, [12] * 6 + [6] * 6, strict=True):
        boxes = flat_regions(pair.normal_hu, (1.2, 1.2))
        added_hu = regional_noise_std_hu(pair.low_hu - pair.normal_hu, boxes)
        assert (added_hu**2 / true_hu**2 + 1) ** 0.5 == pytest.approx(2.0, rel=0.1)

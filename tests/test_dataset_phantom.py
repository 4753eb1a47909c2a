import importlib
import itertools

import numpy as np
import pydicom
import pytest

from kpn_tf.datasets.dose_curve import Setting, dose_curves
from kpn_tf.datasets.phantom import phantom, phantom_scans
from kpn_tf.datasets.phantom_twin import (
    TUBE_CURRENTS_MA,
    TUBE_VOLTAGES_KV,
    brightness,
    noise_std_hu,
    phantom_twin,
)
from kpn_tf.dicom import find_series, read_slice
from kpn_tf.evaluation import Pair, evaluate
from kpn_tf.hounsfield import WATER_ATTENUATION_PER_MM
from kpn_tf.metrics import flat_regions, psnr, regional_noise_std_hu
from kpn_tf.phantom import write_series
from tests.dicom_fixtures import save
from tests.enhanced_fixtures import enhanced_ct, slices_of

SETTINGS = [Setting(kv, ma) for kv in TUBE_VOLTAGES_KV for ma in TUBE_CURRENTS_MA]


class Notes(list):
    """Collects what a protocol left out."""

    def __call__(self, line, failure):
        self.append((line, failure))


@pytest.fixture(scope="module")
def twin(written_phantom_twin):
    return written_phantom_twin


@pytest.fixture(scope="module")
def results(twin):
    stream = phantom(twin, note=Notes())
    return evaluate({"smooth": smooth}, stream.pairs, ("soft", "full"), data_name=stream.data_name)


def smooth(slice_hu):
    """Means of 3 x 3 pixels away from edges: a denoiser that helps more, the noisier the slice is."""
    padded = np.pad(slice_hu, 1, mode="edge")
    rows, columns = slice_hu.shape
    mean_hu = sum(padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)) / 9
    return np.where(np.abs(mean_hu - slice_hu) < 100, mean_hu, slice_hu)


def write_scan(folder, *, kv=120, ma=(90, 90, 90), kernel="B30f", shift_mm=0.0, seed=3, **header):
    """Writes a small scan; `ma` has the current of each slice, `None` for a header that does not say."""
    volume_hu = np.random.default_rng(seed).normal(60, 10, (len(ma), 21, 17))
    # A name of its own, and so a study and a frame of reference.
    paths = write_series(
        volume_hu,
        folder,
        pixel_spacing_mm=(0.8, 0.8),
        slice_spacing_mm=3.0,
        description=folder.name,
        patient_name=folder.name,
    )
    for path, current_ma in zip(paths, ma, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.KVP, dataset.XRayTubeCurrent, dataset.ConvolutionKernel = kv, current_ma, kernel
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + shift_mm, y, z]
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return paths


def test_the_twin_has_fifteen_scans_of_three_voltages_and_five_currents(twin):
    notes = Notes()
    scans = phantom_scans(twin, notes)
    assert [scan.setting for scan in scans] == SETTINGS
    assert [len(scan.series.slices) for scan in scans] == [3] * 15
    assert notes == []


def test_the_twin_is_the_same_every_time(twin, tmp_path, monkeypatch):
    # Two of its fifteen scans: the noise of each comes from a seed of its own.
    module = importlib.import_module("kpn_tf.datasets.phantom_twin")
    monkeypatch.setattr(module, "TUBE_VOLTAGES_KV", TUBE_VOLTAGES_KV[1:2])
    monkeypatch.setattr(module, "TUBE_CURRENTS_MA", TUBE_CURRENTS_MA[::4])
    phantom_twin(tmp_path)
    again = sorted(tmp_path.rglob("*.dcm"))
    assert len(again) == 6
    for path in again:
        assert path.read_bytes() == (twin / path.relative_to(tmp_path)).read_bytes()
    with pytest.raises(FileExistsError):
        phantom_twin(tmp_path)


def test_bone_and_contrast_agent_of_the_twin_fade_with_the_voltage_and_soft_tissue_stays(twin):
    means_hu = {}
    for kv in TUBE_VOLTAGES_KV:
        slice_hu = read_slice(twin / f"{kv:03d}kV_270mA" / "0002.dcm").slice_hu
        aorta, marrow, fat = slice_hu[84:96, 84:96], slice_hu[98:110, 56:72], slice_hu[44:51, 60:72]
        means_hu[kv] = aorta.mean(), marrow.mean(), fat.mean()
    # 165 HU with 42 HU of blood in them, and 190 HU: the torso's at 120 kV.
    for kv, (iodine, bone) in {kv: brightness(kv) for kv in TUBE_VOLTAGES_KV}.items():
        assert means_hu[kv] == pytest.approx((42 + 123 * iodine, 190 * bone, -100), abs=5)
    assert means_hu[80][:2] > means_hu[120][:2] > means_hu[140][:2]


def test_the_brightness_of_iodine_and_calcium_is_that_of_measured_dual_energy_scans():
    assert brightness(120) == (1.0, 1.0)
    (iodine80, bone80), (iodine140, bone140) = brightness(80), brightness(140)
    # Eur Radiol Exp 3 (2019), doi 10.1186/s41747-019-0125-2, table 1: 1.47 for calcium at 80 and 140 kV.
    assert bone80 / bone140 == pytest.approx(1.47, abs=0.03)
    assert 1.8 < iodine80 / iodine140 < 2.1


def test_water_attenuates_at_the_effective_energy_as_the_package_says():
    # NIST Standard Reference Database 126: 0.2059 cm²/g at 60 keV, 0.1837 at 80 keV.
    at_70_kev = np.exp(np.interp(np.log(70), np.log([60, 80]), np.log([0.2059, 0.1837])))
    assert at_70_kev / 10 == pytest.approx(WATER_ATTENUATION_PER_MM, rel=0.01)


def test_the_noise_of_the_twin_follows_current_and_voltage_as_measured():
    # Tang et al., J Biomed Biotechnol 2012, 130169: SD of 5.10 and 3.61 HU at 150 and 300 mAs, 120 kV;
    # 9.60 and 6.50 HU at 80 kV.
    assert noise_std_hu(120, 150) / noise_std_hu(120, 300) == pytest.approx(5.10 / 3.61, rel=0.02)
    assert noise_std_hu(80, 150) / noise_std_hu(120, 150) == pytest.approx(9.60 / 5.10, rel=0.1)
    assert noise_std_hu(80, 300) / noise_std_hu(120, 300) == pytest.approx(6.50 / 3.61, rel=0.1)


def test_the_slices_of_the_twin_have_the_noise_of_their_setting(twin):
    def volume(kv, ma):
        (series,), _ = find_series(twin / f"{kv:03d}kV_{ma:03d}mA")
        return np.stack([read_slice(file.path).slice_hu for file in series.slices])

    for kv in TUBE_VOLTAGES_KV:
        # Anatomy is the same at one voltage: what differs between two scans is their noise.
        mean_hu = np.mean([volume(kv, ma) for ma in TUBE_CURRENTS_MA], axis=0)
        for low, high in itertools.pairwise(TUBE_CURRENTS_MA):
            expected = np.hypot(noise_std_hu(kv, low), noise_std_hu(kv, high))
            measured = [
                regional_noise_std_hu(a - b, flat_regions(clean, 0.9))
                for a, b, clean in zip(volume(kv, low), volume(kv, high), mean_hu, strict=True)
            ]
            assert np.mean(measured) == pytest.approx(expected, rel=0.15)


def test_every_current_is_paired_with_the_highest_of_its_voltage(twin):
    notes = Notes()
    stream = phantom(twin, note=notes)
    pairs = list(stream.pairs)
    assert stream.data_name == "PHANTOM: 80, 120, 140 kV at 30, 90, 150, 210 mA against 270 mA"
    assert [pair.patient for pair in pairs] == [
        str(setting) for setting in SETTINGS if setting.tube_current_ma < 270 for _ in range(3)
    ]
    assert stream.slices == len(pairs) == 36
    assert notes == []
    for i, pair in enumerate(pairs[12:24]):
        setting = Setting.named(pair.patient)
        low, reference = (
            read_slice(twin / f"120kV_{ma:03d}mA" / f"000{i % 3 + 1}.dcm").slice_hu
            for ma in (setting.tube_current_ma, 270)
        )
        np.testing.assert_array_equal(pair.low_hu, low)
        np.testing.assert_array_equal(pair.normal_hu, reference)


def test_every_so_many_th_pair_is_taken_and_the_data_name_says_so(twin):
    stream = phantom(twin, every=3, note=Notes())
    assert stream.slices == 12
    assert stream.data_name.endswith("against 270 mA, one slice in 3")
    assert all(pair.name.endswith("slice 2") for pair in stream.pairs)


def test_the_curves_rise_with_current_and_voltage_and_a_denoiser_lifts_the_lowest_most(results):
    curves = {(curve.denoiser, curve.tube_voltage_kv): curve for curve in dose_curves(results, "soft")}
    assert list(curves) == [(name, kv) for kv in TUBE_VOLTAGES_KV for name in ("low dose", "smooth")]
    for curve in curves.values():
        assert curve.currents_ma == (30, 90, 150, 210)
        for (low, high), psnr_db in zip(curve.intervals_db, curve.psnr_db, strict=True):
            assert low <= psnr_db <= high
    for kv in TUBE_VOLTAGES_KV:
        assert np.all(np.diff(curves["low dose", kv].psnr_db) > 0)
        gain_db = np.subtract(curves["smooth", kv].psnr_db, curves["low dose", kv].psnr_db)
        assert gain_db[0] > 2
        assert gain_db[0] == gain_db.max()
    at_30_ma = [curves["low dose", kv].psnr_db[0] for kv in TUBE_VOLTAGES_KV]
    assert at_30_ma == sorted(at_30_ma)


def test_a_point_of_a_curve_is_the_mean_psnr_of_its_pairs(twin, results):
    pairs = [p for p in phantom(twin, note=Notes()).pairs if p.patient == "140 kV, 90 mA"]
    expected = np.mean([psnr(pair.normal_hu, pair.low_hu, convention="full") for pair in pairs])
    (curve,) = (
        c for c in dose_curves(results, "full") if (c.denoiser, c.tube_voltage_kv) == ("low dose", 140)
    )
    assert curve.psnr_db[1] == pytest.approx(expected)


def test_curves_want_results_of_the_protocol_and_a_convention_they_have(results):
    with pytest.raises(
        ValueError, match=r"a convention of the results, \('soft', 'full'\)\. Received: 'lung'"
    ):
        dose_curves(results, "lung")
    noise_hu = np.random.default_rng(4).normal(60, 9, (2, 31, 27))
    others = evaluate({}, [Pair(*noise_hu, "...0815", "a", (1, 1))], data_name="stripes")
    with pytest.raises(ValueError, match=r"called like '80 kV, 30 mA'\. Received: '\.\.\.0815'"):
        dose_curves(others, "soft")


def test_currents_that_hardly_differ_are_one(tmp_path):
    write_scan(tmp_path / "low", ma=(89, 90, 91))
    write_scan(tmp_path / "high", ma=(268, 270, 271), seed=4)
    write_scan(tmp_path / "again", ma=(272, 272, 272), kernel="B70f", seed=5)
    notes = Notes()
    settings = [scan.setting for scan in phantom_scans(tmp_path, notes)]
    assert settings == [Setting(120, 90), Setting(120, 271), Setting(120, 271)]
    assert notes == []


def test_the_data_name_tells_each_set_of_currents_once(tmp_path):
    for kv, currents_ma in ((80, (30, 90, 270)), (100, (30, 200)), (140, (270, 90, 30))):
        for ma in currents_ma:
            write_scan(tmp_path / f"{kv} {ma}", kv=kv, ma=(ma,), seed=kv + ma)
    name = phantom(tmp_path, note=Notes()).data_name
    assert name == "PHANTOM: 80, 140 kV at 30, 90 mA against 270 mA; 100 kV at 30 mA against 200 mA"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ma": (9, 60, 115)}, "tube current modulated from 9 to 115 mA, no point on a dose curve"),
        ({"ma": (90, 90, 97)}, "tube current modulated from 90 to 97 mA"),
        ({"ma": (90, None, 90)}, "KVP or XRayTubeCurrent missing in a header"),
        ({"ma": (0, 0, 0)}, "KVP or XRayTubeCurrent missing in a header"),
        ({"kv": None}, "KVP or XRayTubeCurrent missing in a header"),
    ],
)
def test_a_series_that_is_no_point_on_a_curve_is_refused_by_name(tmp_path, changes, reason):
    write_scan(tmp_path / "low", **changes)
    notes = Notes()
    assert phantom_scans(tmp_path, notes) == []
    ((line, failure),) = notes
    assert line.startswith("series ...")
    assert reason in line
    assert failure


def test_two_voltages_in_one_series_are_refused(tmp_path):
    last = write_scan(tmp_path / "switched")[-1]
    dataset = pydicom.dcmread(last)
    dataset.KVP = 80
    dataset.save_as(last)
    notes = Notes()
    assert phantom_scans(tmp_path, notes) == []
    assert "tube voltage changes from 80 to 120 kV within the series" in notes[0][0]


def test_a_voltage_with_one_current_has_no_reference(tmp_path):
    write_scan(tmp_path / "only", ma=(90,))
    notes = Notes()
    stream = phantom(tmp_path, note=notes)
    assert list(stream.pairs) == []
    assert stream.slices == 0
    assert notes == [("120 kV: one tube current only (90 mA), and none below it to judge by it", True)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kernel": "B70f"}, "no normal-dose series of the same kernel"),
        ({"shift_mm": 5.0}, "lies elsewhere in its plane"),
        ({"ma": (90, 90)}, "no normal-dose series of the same positions"),
    ],
)
def test_what_does_not_match_its_reference_is_named(tmp_path, changes, reason):
    write_scan(tmp_path / "low", **changes)
    write_scan(tmp_path / "high", ma=(270, 270, 270), seed=4)
    notes = Notes()
    assert list(phantom(tmp_path, note=notes).pairs) == []
    assert all(reason in line and failure for line, failure in notes)
    assert notes


def test_series_that_this_package_made_are_no_scans(tmp_path):
    own = pydicom.Dataset()
    own.Manufacturer, own.ManufacturerModelName = "kpn_tf", "low-dose simulation"
    write_scan(tmp_path / "simulated", ContributingEquipmentSequence=[own])
    notes = Notes()
    assert phantom_scans(tmp_path, notes) == []
    ((line, failure),) = notes
    assert "made by kpn_tf" in line
    assert not failure


def test_real_scans_with_modulated_current_are_refused_and_one_at_a_fixed_current_is_taken(ct_data):
    notes = Notes()
    scans = phantom_scans(ct_data / "phantom", notes)
    assert [scan.setting for scan in scans] == [Setting(120, 343)]
    refused = sorted(line.split(": ", 1)[1] for line, failure in notes if failure)
    expected = "tube current modulated from {} mA, no point on a dose curve; expected a scan at one current"
    # The uniform phantom, and two reconstructions of one helical scan of the head.
    assert refused == sorted(expected.format(currents) for currents in ("9 to 115", "54 to 119", "54 to 119"))


def test_simulated_low_contrast_scans_of_three_doses_make_a_curve(ct_data, tmp_path):
    """Dose stands for the current: 10, 55 and 100 % as so many mA; ten realisations as ten slices."""
    source = ct_data / "phantom" / "mita_lcd_simulated"
    for percent in (10, 55, 100):
        files = sorted((source / f"dose_{percent:03d}" / "signal_present").glob("*.raw"))
        volume_hu = np.stack([np.fromfile(file, "<i2").reshape(256, 256) for file in files]) - 1000.0
        paths = write_series(
            volume_hu,
            tmp_path / str(percent),
            pixel_spacing_mm=(0.8, 0.8),
            slice_spacing_mm=1.0,
            description=f"{percent} %",
        )
        for path in paths:
            dataset = pydicom.dcmread(path)
            dataset.XRayTubeCurrent = percent
            dataset.save_as(path)
    notes = Notes()
    stream = phantom(tmp_path, note=notes)
    assert stream.data_name == "PHANTOM: 120 kV at 10, 55 mA against 100 mA"
    results = evaluate({"smooth": smooth}, stream.pairs, data_name=stream.data_name)
    low, smoothed = dose_curves(results, "soft")
    assert notes == []
    assert low.currents_ma == smoothed.currents_ma == (10, 55)
    assert low.psnr_db[0] < low.psnr_db[1]
    # Both scans of a pair have noise: variances in proportion to 1/dose give 5.9 dB before clipping.
    assert low.psnr_db[1] - low.psnr_db[0] == pytest.approx(
        10 * np.log10((1 / 0.1 + 1) / (1 / 0.55 + 1)), abs=1.5
    )
    assert smoothed.psnr_db[0] - low.psnr_db[0] > smoothed.psnr_db[1] - low.psnr_db[1] > 0


def test_voltage_and_current_of_frames_are_found_in_their_groups(tmp_path):
    save(enhanced_ct(slices_of(3)), tmp_path / "a.dcm")
    (scan,) = phantom_scans(tmp_path, note=pytest.fail)
    assert scan.setting == Setting(120, 211)

import importlib

import numpy as np
import pydicom
import pytest

from kpn_tf.datasets.dose import Unpaired, dose, side_by_side
from kpn_tf.datasets.dose_noise import FREQUENCIES_PER_MM, measure_noise
from kpn_tf.datasets.dose_twin import dose_twin
from kpn_tf.dicom import DicomError, find_series, read_slice
from kpn_tf.evaluation import DenoiserError
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.metrics import flat_regions, noise_power_spectrum
from kpn_tf.phantom import write_series
from kpn_tf.png import grey


class Notes(list):
    """Collects what a protocol left out."""

    def __call__(self, line, failure):
        self.append((line, failure))


@pytest.fixture
def twin(written_dose_twin):
    return written_dose_twin


def slices(count=3, low_noise_hu=30.0, normal_noise_hu=10.0, spacing_mm=(0.8, 0.9)):
    """White noise about 60 HU: nothing but flat tissue."""
    rng = np.random.default_rng(11)
    for i in range(count):
        low_hu, normal_hu = (60 + rng.normal(0, sd, (113, 97)) for sd in (low_noise_hu, normal_noise_hu))
        yield Unpaired(low_hu, normal_hu, f"...{i // 2}", f"slice {i}", spacing_mm, spacing_mm)


def smooth(slice_hu):
    """Means of 3 x 3 pixels."""
    padded = np.pad(slice_hu, 1, mode="edge")
    rows, columns = slice_hu.shape
    return sum(padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)) / 9


def write_scan(folder, *, patient="P-1", kernel="B30f", count=3, thickness_mm=3.0, seed=5, **header):
    paths = write_series(
        np.random.default_rng(seed).normal(60, 10, (count, 21, 17)),
        folder,
        pixel_spacing_mm=(0.8, 0.8),
        slice_spacing_mm=thickness_mm,
        description=folder.name,
        patient_name=f"{folder.parent.name} {folder.name}",
    )
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.ConvolutionKernel = patient, kernel
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return paths


def test_the_twin_has_three_patients_in_two_doses_of_other_studies(twin):
    doses = {}
    for name in ("low", "normal"):
        found, refusals = find_series(twin / name)
        assert refusals == []
        assert [len(series.slices) for series in found] == [3] * 3
        doses[name] = found
    studies = {series.study_uid for found in doses.values() for series in found}
    assert len(studies) == 6


def test_the_twin_is_the_same_every_time(twin, tmp_path, monkeypatch):
    module = importlib.import_module("kpn_tf.datasets.dose_twin")
    # One of its three patients, whose noise comes from seeds of its own.
    monkeypatch.setattr(module, "_PIXELS_MM", module._PIXELS_MM[:1])
    dose_twin(tmp_path)
    again = sorted(tmp_path.rglob("*.dcm"))
    assert len(again) == 6
    assert all((twin / path.relative_to(tmp_path)).read_bytes() == path.read_bytes() for path in again)
    with pytest.raises(FileExistsError):
        dose_twin(tmp_path)


def test_the_two_doses_of_the_twin_are_not_aligned(twin):
    for one in dose(twin, note=Notes()).unpaired:
        smoothed = [smooth(smooth(slice_hu)) for slice_hu in (one.low_hu, one.normal_hu)]
        low, normal = (np.clip(slice_hu, -160, 240) for slice_hu in smoothed)
        as_they_lie = np.abs(low - normal).mean()
        # The normal dose was cut out 5 rows further down and 9 columns further left.
        moved = np.abs(low[5:, :-9] - normal[:-5, 9:]).mean()
        assert as_they_lie > 2 * moved


def test_every_low_dose_slice_comes_with_a_normal_dose_slice_of_its_patient(twin):
    notes = Notes()
    stream = dose(twin, note=notes)
    unpaired = list(stream.unpaired)
    assert stream.slices == len(unpaired) == 9
    assert stream.data_name == "DOSE: low and normal dose of the same patients, not aligned"
    assert notes == []
    assert len({one.patient for one in unpaired}) == 3
    assert len({(one.patient, one.low_spacing_mm) for one in unpaired}) == 3
    # Every patient of the twin has a pixel size of their own.
    assert all(one.low_spacing_mm == one.normal_spacing_mm for one in unpaired)
    assert all("TWIN" not in one.patient + one.name for one in unpaired)


def test_every_so_many_th_slice_is_taken_and_the_data_name_says_so(twin):
    stream = dose(twin, every=3, note=Notes())
    assert stream.slices == 3
    assert stream.data_name.endswith("not aligned, one slice in 3")
    assert all(one.name.endswith("slice 2") for one in stream.unpaired)


def test_scans_of_other_lengths_are_laid_beside_each_other_from_end_to_end(tmp_path):
    write_scan(tmp_path / "low" / "a", count=2)
    long = write_scan(tmp_path / "normal" / "a", count=7, seed=6)
    write_scan(tmp_path / "normal" / "b", count=3, seed=7)
    beside = [one.normal_hu for one in dose(tmp_path, note=Notes()).unpaired]
    # Middles of the two halves of seven slices.
    for normal_hu, path in zip(beside, (long[1], long[5]), strict=True):
        np.testing.assert_array_equal(normal_hu, read_slice(path).slice_hu)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patient": "P-2"}, "no normal-dose series of the same patient"),
        ({"patient": ""}, "no PatientID to find the normal dose of the same patient by"),
        ({"kernel": "B70f"}, "no normal-dose series of the same kernel"),
        ({"thickness_mm": 5.0}, "no normal-dose series of the same slice thickness"),
    ],
)
def test_a_low_dose_series_without_a_normal_dose_is_named(tmp_path, changes, reason):
    write_scan(tmp_path / "low" / "a", **changes)
    write_scan(tmp_path / "normal" / "a", seed=6)
    notes = Notes()
    stream = dose(tmp_path, note=notes)
    assert list(stream.unpaired) == []
    ((line, failure),) = notes
    assert line.endswith(reason)
    assert "P-" not in line
    assert failure


def test_what_this_package_made_is_neither_dose(tmp_path):
    def made_by(model):
        equipment = pydicom.Dataset()
        equipment.Manufacturer, equipment.ManufacturerModelName = "kpn_tf", model
        return [equipment]

    write_scan(tmp_path / "low" / "a", ContributingEquipmentSequence=made_by("edge"))
    write_scan(tmp_path / "low" / "b", seed=8)
    write_scan(
        tmp_path / "normal" / "a", seed=6, ContributingEquipmentSequence=made_by("low-dose simulation")
    )
    notes = Notes()
    assert dose(tmp_path, note=notes).slices == 0
    assert sorted(line.split(": ")[1] for line, _ in notes) == [
        "made by kpn_tf, no scan of this dose",
        "made by kpn_tf, no scan of this dose",
        "no normal-dose series of the same patient",
    ]


def test_a_folder_without_the_two_doses_is_refused(tmp_path):
    (tmp_path / "low").mkdir()
    with pytest.raises(DicomError, match="normal: does not exist"):
        dose(tmp_path, note=Notes())


def test_noise_is_measured_before_and_after_and_in_the_normal_dose():
    table = measure_noise({"smooth": smooth}, slices(), data_name="white")
    low, smoothed, normal = table.rows
    assert [row.name for row in table.rows] == ["low dose", "smooth", "normal dose"]
    assert (table.patients, low.slices) == (2, 3)
    # The flattest boxes of pure noise: somewhat below its 30 and 10 HU.
    assert low.noise_std_hu == pytest.approx(30, rel=0.06)
    assert normal.noise_std_hu == pytest.approx(10, rel=0.06)
    # Nine pixels of white noise have a third of its SD.
    assert smoothed.noise_std_hu == pytest.approx(low.noise_std_hu / 3, rel=0.1)
    assert (low.shift_hu, smoothed.shift_hu) == (0, pytest.approx(0, abs=0.5))
    assert np.isnan(normal.shift_hu)
    assert smoothed.mean_frequency_per_mm < 0.8 * low.mean_frequency_per_mm


def test_the_spectrum_is_that_of_the_noise_up_to_the_nyquist_frequency():
    low, smoothed, _ = measure_noise({"smooth": smooth}, slices(9), data_name="white").rows
    frequency = np.array(FREQUENCIES_PER_MM)
    known = ~np.isnan(low.spectrum)
    # Columns of 0.9 mm: 0.556 per mm.
    np.testing.assert_array_equal(known, frequency < 0.56)
    # White noise of 30 HU has 30² · 0.8 · 0.9 HU²·mm² at every frequency, less what choosing the flattest boxes
    # takes, and, at 0.1 per mm, their planes.
    np.testing.assert_allclose(np.array(low.spectrum)[known][1:], 30**2 * 0.8 * 0.9, rtol=0.15)
    assert np.array(smoothed.spectrum)[known][-1] < 0.1 * np.array(smoothed.spectrum)[known][0]


def test_the_spectrum_of_one_slice_is_the_mean_over_its_regions():
    (one,) = slices(1)
    regions = flat_regions(one.low_hu, one.low_spacing_mm)
    frequency, density = noise_power_spectrum(
        np.stack([one.low_hu[region] for region in regions]), one.low_spacing_mm
    )
    low, _ = measure_noise({}, [one], data_name="white").rows
    at_0_3 = low.spectrum[FREQUENCIES_PER_MM.index(0.3)]
    assert at_0_3 == pytest.approx(np.interp(0.3, frequency, density))
    assert low.mean_frequency_per_mm == pytest.approx(np.average(frequency, weights=density))


def test_slices_without_flat_tissue_count_for_nothing():
    air = Unpaired(np.full((61, 47), -1000.0), np.full((61, 47), -1000.0), "...x", "air", (1, 1), (1, 1))
    both, alone = (
        measure_noise({"same": np.copy}, given, data_name="some").rows
        for given in ([air, *slices(2)], slices(2))
    )
    assert [row.slices for row in both] == [2, 2, 2]
    for row, expected in zip(both, alone, strict=True):
        assert row.noise_std_hu == expected.noise_std_hu
        np.testing.assert_array_equal(row.spectrum, expected.spectrum)
    nothing = measure_noise({}, [air], data_name="air")
    assert nothing.rows[0].slices == 0
    assert np.isnan(nothing.rows[0].noise_std_hu)
    assert "| low dose | 0 | – | – | – |" in nothing.to_markdown()


def test_on_the_twin_the_low_dose_has_about_twice_the_noise_of_the_normal_dose(twin):
    stream = dose(twin, note=Notes())
    table = measure_noise({"smooth": smooth}, stream.unpaired, data_name=stream.data_name)
    low, smoothed, normal = table.rows
    assert [row.slices for row in table.rows] == [9, 9, 9]
    assert low.noise_std_hu / normal.noise_std_hu == pytest.approx(2, rel=0.15)
    assert smoothed.noise_std_hu < 0.6 * low.noise_std_hu
    # Both scans have one kernel, so their noise has one texture; means make it blotchier.
    assert low.mean_frequency_per_mm == pytest.approx(normal.mean_frequency_per_mm, rel=0.05)
    assert smoothed.mean_frequency_per_mm < 0.8 * low.mean_frequency_per_mm


def test_the_table_says_what_its_numbers_mean():
    lines = measure_noise({"smooth": smooth}, slices(), data_name="white noise").to_markdown().splitlines()
    assert lines[0].startswith("**white noise**: 2 patients. In the flattest soft tissue (15 mm boxes)")
    assert lines[2] == "| | slices | noise SD (HU) | mean frequency (1/mm) | HU shift |"
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| low dose", "| smooth", "| normal dose"]
    assert lines[-1].endswith("– |")


def test_a_picture_shows_both_doses_and_every_denoiser_between_them():
    rng = np.random.default_rng(2)
    one = Unpaired(
        rng.normal(0, 99, (11, 7)), rng.normal(0, 99, (13, 9)), "...x", "slice 1", (0.8, 0.8), (0.7, 0.7)
    )
    image = side_by_side(one, [smooth], "soft")
    assert (image.shape, image.dtype) == ((13, 7 + 7 + 9), np.uint8)
    window = WINDOWS["soft"]
    np.testing.assert_array_equal(image[:11, :7], grey(one.low_hu.astype("float32"), window))
    np.testing.assert_array_equal(image[:11, 7:14], grey(smooth(one.low_hu.astype("float32")), window))
    np.testing.assert_array_equal(image[:, 14:], grey(one.normal_hu, window))
    assert not image[11:, :14].any()
    with pytest.raises(ValueError, match="Received: 'brain'"):
        side_by_side(one, [], "brain")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: measure_noise({}, [], data_name="white"), ValueError, "one slice in white. Received: none"),
        (
            lambda: measure_noise({"normal dose": smooth}, slices(), data_name="white"),
            ValueError,
            r"other than those of the doses. Received: \['normal dose'\]",
        ),
        (
            lambda: measure_noise({"cut": lambda x: x[1:]}, slices(), data_name="white"),
            DenoiserError,
            r"\(113, 97\) from denoiser 'cut' on slice slice 0. Received: shape \(112, 97\)",
        ),
        (
            lambda: measure_noise({"nan": lambda x: x * np.nan}, slices(), data_name="white"),
            DenoiserError,
            "finite slice .* from denoiser 'nan'",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_denoiser_cannot_alter_what_is_measured():
    def greedy(slice_hu):
        slice_hu[:] = 0
        return slice_hu

    low, emptied, _ = measure_noise({"greedy": greedy}, slices(), data_name="white").rows
    assert low.noise_std_hu == pytest.approx(30, rel=0.06)
    assert emptied.noise_std_hu == 0
    assert np.isnan(emptied.mean_frequency_per_mm)

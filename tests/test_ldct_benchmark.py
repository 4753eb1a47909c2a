"""The open benchmark for low-dose CT: its patients, its windows, its measures, and its table beside ours."""

import json
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.pixels.processing import apply_windowing

from kpn_tf.datasets import idc
from kpn_tf.datasets.ldct_benchmark import REGIONS, ldct_benchmark
from kpn_tf.datasets.ldct_scores import LdctTable, compare, scores
from kpn_tf.evaluation import LOW_DOSE
from kpn_tf.phantom import torso, write_series
from tests.command import BOX, kpn

# Two slices of each; L004 is in the collection, and not in the test set.
PATIENTS = ("L006", "L241", "C121", "N176", "L004")


@pytest.fixture(scope="module")
def collection(made_once):
    """A synthetic collection in the layout that the NBIA Data Retriever leaves."""

    def fill(folder):
        truth_hu = torso(37, 47, 2 * len(PATIENTS), 8.0, 20.0).volume_hu
        rng = np.random.default_rng(17)
        for number, patient in enumerate(PATIENTS):
            for name, noise_hu in (("Full Dose Images", 10), ("Low Dose Images", 40)):
                scan_hu = truth_hu[2 * number : 2 * number + 2] + rng.normal(0, noise_hu, (2, 37, 47))
                place = folder / "LDCT-and-Projection-data" / patient / "12-23-2021-NA-NA-00001"
                paths = write_series(
                    scan_hu,
                    place / f"1.000000-{name}-00002",
                    pixel_spacing_mm=(8.0, 8.0),
                    slice_spacing_mm=20.0,
                    description=name,
                    patient_name=patient,
                )
                for path in paths:
                    dataset = pydicom.dcmread(path)
                    dataset.PatientID = patient
                    dataset.save_as(path)

    return made_once("ldct-collection", fill)


def test_the_test_set_is_five_patients_of_each_region_in_the_published_windows():
    assert {letter: (region.name, len(region.slices)) for letter, region in REGIONS.items()} == {
        "L": ("abdomen", 5),
        "C": ("chest", 5),
        "N": ("head", 5),
    }
    assert all(patient[0] == letter for letter, region in REGIONS.items() for patient in region.slices)
    # Eulig et al.: centre 50 and width 400 for the abdomen, -600 and 1500 for the chest, 40 and 80 for the head.
    windows = {letter: (region.window.low_hu, region.window.high_hu) for letter, region in REGIONS.items()}
    assert windows == {"L": (-150, 249), "C": (-1350, 149), "N": (0, 79)}
    # Their RED-CNN, as others cite it.
    assert [region.published["RED-CNN"] for region in REGIONS.values()] == [
        (33.685, 0.913),
        (28.002, 0.584),
        (34.132, 0.932),
    ]
    assert len({tuple(region.published) for region in REGIONS.values()}) == 1


def test_the_imaging_data_commons_has_as_many_slices_of_abdomen_and_chest_in_both_doses():
    pytest.importorskip("idc_index_data")
    found = [(series.patient, series.files) for series in idc.collection().series]
    for letter in "LC":
        for patient, count in REGIONS[letter].slices.items():
            assert found.count((patient, count)) == 2


@pytest.mark.parametrize("letter", sorted(REGIONS))
def test_the_scores_are_those_of_scikit_image_on_the_window_that_dicom_defines(letter):
    metrics = pytest.importorskip("skimage.metrics")
    region = REGIONS[letter]
    rng = np.random.default_rng(3)
    normal = 1024 + region.centre_hu + rng.normal(0, region.width_hu / 2, (23, 19)).round()
    low = normal + rng.normal(0, region.width_hu / 5, normal.shape).round()
    header = pydicom.Dataset()
    header.WindowCenter, header.WindowWidth = 1024 + region.centre_hu, region.width_hu
    header.PhotometricInterpretation, header.PixelRepresentation, header.BitsStored = "MONOCHROME2", 0, 12
    x, y = (apply_windowing(slice_.astype(int), header) / 4095 for slice_ in (normal, low))
    assert 0.1 < np.isin(x, (0, 1)).mean() < 0.9
    psnr_db, ssim = scores(normal - 1024, low - 1024, region.window)
    assert psnr_db == pytest.approx(metrics.peak_signal_noise_ratio(x, y, data_range=1), abs=1e-6)
    assert ssim == pytest.approx(metrics.structural_similarity(x, y, data_range=1), abs=1e-6)


def test_equal_slices_score_infinity_and_one():
    slice_hu = np.random.default_rng(5).normal(0, 100, (11, 9))
    assert scores(slice_hu, slice_hu, REGIONS["L"].window) == (np.inf, pytest.approx(1))


def test_pairs_are_of_the_test_patients_that_are_there(collection):
    stream = ldct_benchmark(collection, note=pytest.fail)
    pairs = list(stream.pairs)
    assert stream.slices == len(pairs) == 8
    assert [pair.patient for pair in pairs[::2]] == ["L006", "L241", "C121", "N176"]
    # The noise of the low dose, not of the normal one.
    assert all(np.std(pair.low_hu - pair.normal_hu) > 25 for pair in pairs)
    assert len(list(ldct_benchmark(collection, every=2, note=pytest.fail).pairs)) == 4


def test_a_patient_without_a_low_dose_is_named(collection, tmp_path):
    folder = shutil.copytree(collection, tmp_path / "copy")
    (low,) = folder.glob("*/C121/*/*Low Dose*")
    shutil.rmtree(low)
    notes = []
    stream = ldct_benchmark(folder, note=lambda *note: notes.append(note))
    assert "C121" not in {pair.patient for pair in stream.pairs}
    assert notes == [("C121: has no low-dose series (quarter_3mm, Low Dose Images)", True)]


def test_the_challenges_patient_of_a_number_is_not_taken_for_the_collections(collection, tmp_path):
    (study,) = collection.glob("*/L241/*")
    for dose in ("full", "quarter"):
        (source,) = study.glob("*Full*" if dose == "full" else "*Low*")
        shutil.copytree(source, tmp_path / "L241" / f"{dose}_3mm")
    with pytest.raises(
        ValueError, match=r"Received: folders of the challenge of 2016 for L241, who is another"
    ):
        ldct_benchmark(tmp_path, note=pytest.fail)


def test_a_folder_without_test_patients_is_refused_and_told_how_to_get_them(collection, tmp_path):
    (study,) = collection.glob("*/L004")
    shutil.copytree(study, tmp_path / "L004")
    with pytest.raises(ValueError, match=r"Received: none of them among 1 patients; kpn data idc downloads"):
        ldct_benchmark(tmp_path, note=pytest.fail)


def records(region, low_db):
    """A low dose whose slices have its published SSIM, and a PSNR."""
    return tuple(
        {"denoiser": LOW_DOSE, "patient": patient, "slice": str(i), "psnr_db": low_db, "ssim": ssim}
        for _, ssim in [region.published[LOW_DOSE]]
        for patient, count in region.slices.items()
        for i in range(count)
    )


def test_only_all_slices_with_the_published_low_dose_are_called_comparable():
    head = REGIONS["N"]
    assert LdctTable("", records(head, 30.93)).missing(head) is None
    assert "the low dose itself does not have" in LdctTable("", records(head, 30.85)).missing(head)
    short = LdctTable("", records(head, 30.93)[:-39])
    assert short.missing(head) == (
        "145 of 184 slices, of 4 of 5 patients: the published numbers are of other slices"
    )


def test_means_are_over_all_slices_of_a_region():
    stream = [(name, count) for name, count in REGIONS["N"].slices.items()]
    given = tuple(
        {"denoiser": LOW_DOSE, "patient": name, "slice": str(i), "psnr_db": float(number), "ssim": 0.5}
        for number, (name, count) in enumerate(stream)
        for i in range(count)
    )
    (row,) = LdctTable("", given).rows(REGIONS["N"])
    # 35, 35, 38, 37 and 39 slices: not the mean over patients, which is 2.
    assert row.means["psnr_db"] == pytest.approx((35 + 2 * 38 + 3 * 37 + 4 * 39) / 184)


def test_a_denoiser_is_scored_in_the_window_of_its_region(collection):
    pairs = list(ldct_benchmark(collection, note=pytest.fail).pairs)
    table = compare({"cut": lambda slice_hu: np.maximum(slice_hu, -150)}, pairs, data_name="x")
    rows = {region.name: table.rows(region) for region in table.regions}
    assert list(rows) == ["abdomen", "chest", "head"]
    # What the abdomen's window clips anyway changes nothing there, and much in the chest's.
    assert rows["abdomen"][0].means == rows["abdomen"][1].means
    assert rows["chest"][1].means["psnr_db"] < rows["chest"][0].means["psnr_db"] - 3


def test_one_command_puts_a_denoiser_beside_the_published_table(collection, tmp_path, capfd):
    words = ("--ldct-benchmark", "--denoiser", BOX, "--json", tmp_path / "table.json")
    assert kpn("evaluate", collection, *words) == 0
    out, err = capfd.readouterr()
    assert err == ""
    cells = {
        line.strip("| ").split(" | ")[0]: line.strip("| ").split(" | ")[1:]
        for line in out.splitlines()
        if line.startswith("| ")
    }
    assert cells["published: RED-CNN"] == ["33.685", "0.913", "28.002", "0.584", "34.132", "0.932"]
    assert "- abdomen: **not comparable**: 4 of 827 slices, of 2 of 5 patients" in out
    document = json.loads((tmp_path / "table.json").read_text())
    head = document["regions"]["head"]
    assert head["window_hu"] == [0, 79]
    assert head["slices"] == {"N090": 0, "N138": 0, "N153": 0, "N176": 2, "N284": 0}
    assert head["published"]["RED-CNN"] == {"psnr_db": 34.132, "ssim": 0.932}
    assert cells[BOX.stem][4].split()[0] == f"{head['rows'][1]['means']['psnr_db']:.3f}"
    assert [row["denoiser"] for row in head["rows"]] == [LOW_DOSE, BOX.stem]
    assert len(document["per_slice"]) == 16


@pytest.mark.parametrize("more", [("--dose", "0.5"), ("--convention", "lung"), ("--reference", ".")])
def test_what_the_protocol_decides_cannot_be_asked_for(collection, capfd, more):
    assert kpn("evaluate", collection, "--ldct-benchmark", *more) == 2
    assert "expected --ldct-benchmark without --reference, --dose, --seed and --convention" in (
        capfd.readouterr().err
    )

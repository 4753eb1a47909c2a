"""`kpn evaluate`: any denoisers on simulated or real pairs, one table, nothing about the patient."""

import dataclasses
import importlib.metadata
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from baselines import bm3d, ksvd, packages
from kpn_tf.cli import extras
from kpn_tf.cli.evaluate import EvaluateConfig
from kpn_tf.denoiser import artefact
from kpn_tf.dicom import find_series, read_slice
from kpn_tf.evaluation import paired, simulated_pairs, stream
from kpn_tf.evaluation.mean_of_slices import MeanOfSlices
from kpn_tf.hounsfield import AIR_HU
from kpn_tf.metrics import psnr
from kpn_tf.trained import DEFAULT_WEIGHTS
from tests.command import BOX, kpn
from tests.noisy_torso import noisy_volume, write_torso
from tests.test_denoiser import STANDINS


@pytest.fixture(autouse=True)
def weights(tmp_path_factory, monkeypatch):
    """An installation whose default weights are the 7x7 mean."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(BOX, folder / f"{DEFAULT_WEIGHTS}.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", folder)
    return folder


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A normal-dose scan of three slices."""
    folder = tmp_path_factory.mktemp("scan")
    write_torso(folder)
    return folder


@pytest.fixture(scope="module")
def low(scan, tmp_path_factory):
    """The same at a quarter of the dose, written by `kpn simulate`."""
    folder = tmp_path_factory.mktemp("low")
    assert kpn("simulate", scan, folder) == 0
    return folder


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A module of the user's own, in the folder the command is called from."""
    (tmp_path / "own_denoisers.py").write_text(
        "calls = []\n"
        "def same(slice_hu):\n"
        "    calls.append(slice_hu.shape)\n"
        "    return slice_hu\n"
        "def broken(slice_hu):\n"
        "    raise RuntimeError('out of ideas')\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield "own_denoisers"
    sys.modules.pop("own_denoisers", None)


def rows(out):
    """Cells of the table's rows, by patient and denoiser."""
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("|")]
    return {(cells[0], cells[1]): cells[2:] for cells in lines[2:]}


def test_a_good_run_is_status_zero_and_one_table_in_three_forms(scan, tmp_path, capfd):
    places = ["--json", tmp_path / "table.json", "--markdown", tmp_path / "table.md"]
    words = ["--denoiser", DEFAULT_WEIGHTS, "--convention", "soft", "--convention", "lung", *places]
    assert kpn("evaluate", scan, *words) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == out
    assert out.startswith("**25 % of the dose, simulated (seed 0)**: 3 slices of 1 patients")
    (tail,) = {patient for patient, _ in rows(out)} - {"all"}
    assert re.fullmatch(r"\.\.\.\d{12}", tail)
    document = json.loads((tmp_path / "table.json").read_text())
    assert list(document["conventions"]) == ["soft", "lung"]
    assert [row["denoiser"] for row in document["rows"]] == ["low dose", DEFAULT_WEIGHTS] * 2
    assert (
        document["denoisers"][DEFAULT_WEIGHTS]["file_sha256"]
        == artefact.open_artefact(DEFAULT_WEIGHTS).file_sha256
    )
    assert document["failures"] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", "table.json"}


def test_simulated_pairs_hold_what_simulate_writes(scan, low):
    notes = []
    pairs = list(simulated_pairs(scan, dose=0.25, seed=0, every=1, note=notes.append).pairs)
    (normal_series,), _ = find_series(scan)
    (low_series,), _ = find_series(low)
    for pair, normal, lowered in zip(pairs, normal_series.slices, low_series.slices, strict=True):
        np.testing.assert_array_equal(pair.normal_hu, read_slice(normal.path).slice_hu)
        np.testing.assert_array_equal(np.rint(pair.low_hu), read_slice(lowered.path).slice_hu)
    assert notes == []


def test_pairs_on_disk_give_the_table_of_the_simulation(scan, low, capfd):
    assert kpn("evaluate", low, "--reference", scan) == 0
    from_disk = rows(capfd.readouterr().out)["all", "low dose"]
    assert kpn("evaluate", scan) == 0
    simulated = rows(capfd.readouterr().out)["all", "low dose"]
    assert float(from_disk[1].split()[0]) == pytest.approx(float(simulated[1].split()[0]), abs=0.02)
    (normal,), _ = find_series(scan)
    (lowered,), _ = find_series(low)
    expected = np.mean(
        [
            psnr(read_slice(a.path).slice_hu, read_slice(b.path).slice_hu, convention="soft")
            for a, b in zip(normal.slices, lowered.slices, strict=True)
        ]
    )
    assert float(from_disk[1].split()[0]) == pytest.approx(expected, abs=0.006)


def test_every_nth_slice_is_taken_and_at_least_one_of_a_series(scan, tmp_path):
    write_torso(tmp_path / "one", noisy_volume()[:1])
    names = []
    for folder, every in ((scan, 1), (scan, 2), (scan, 3), (tmp_path / "one", 9)):
        pairs = simulated_pairs(folder, dose=0.25, seed=0, every=every, note=pytest.fail)
        names.append([pair.name[-1] for pair in pairs.pairs])
        assert pairs.slices == len(names[-1])
    assert names == [["1", "2", "3"], ["1", "3"], ["2"], ["1"]]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_denoiser_that_sees_neighbours_gets_those_of_the_low_dose(scan, low, on_disk):
    how = {"every": 1, "note": pytest.fail, "slices": 5}
    made = paired(low, scan, **how) if on_disk else simulated_pairs(scan, dose=0.25, seed=0, **how)
    first, middle, last = pairs = list(made.pairs)
    distances = [[one and one.distance_mm for one in pair.neighbours] for pair in pairs]
    assert distances == [[None, None, 3.0, 6.0], [None, 3.0, 3.0, None], [6.0, 3.0, None, None]]
    for pair, places in ((first, {2: middle, 3: last}), (middle, {1: first, 2: last})):
        for place, other in places.items():
            np.testing.assert_array_equal(pair.neighbours[place].slice_hu, other.low_hu)
    assert [pair.nearest(2) for pair in pairs] == [pair.neighbours[1:3] for pair in pairs]


def test_a_neighbour_that_cannot_be_read_is_none_and_each_slice_is_simulated_once(tmp_path, monkeypatch):
    paths = write_torso(tmp_path, noisy_volume(5))
    paths[3].write_bytes(paths[3].read_bytes()[:-5000])  # its pixels end early
    read, notes = [], []
    monkeypatch.setattr(
        stream, "read_slice", lambda path, frame: (read.append(path), read_slice(path, frame))[1]
    )
    how = {"every": 1, "note": lambda line, failure: notes.append(line), "slices": 3}
    pairs = list(simulated_pairs(tmp_path, dose=0.25, seed=0, **how).pairs)
    there = [[one is not None for one in pair.neighbours] for pair in pairs]
    assert there == [[False, True], [True, True], [True, False], [False, False]]
    assert sorted(path for path in read if path != paths[3]) == sorted({*paths} - {paths[3]})
    assert len(notes) == 1


def test_the_table_of_a_network_that_sees_neighbours_is_made_with_them(tmp_path, capfd):
    volume_hu = noisy_volume(4)
    write_torso(tmp_path / "in", volume_hu)
    words = ["--every", "2", "--denoiser", str(STANDINS / "weighted.tflite"), "--denoiser", "mean3"]
    assert kpn("evaluate", tmp_path / "in", *words, "--json", tmp_path / "table.json") == 0
    capfd.readouterr()
    document = json.loads((tmp_path / "table.json").read_text())
    means = {row["denoiser"]: row["means"] for row in document["rows"] if row["patient"] is None}
    pairs = list(
        simulated_pairs(tmp_path / "in", dose=0.25, seed=0, every=2, note=pytest.fail, slices=3).pairs
    )
    expected = np.mean(
        [
            psnr(pair.normal_hu, MeanOfSlices()(pair.low_hu, None, pair.neighbours), convention="soft")
            for pair in pairs
        ]
    )
    assert means["mean3"]["psnr_soft_db"] == pytest.approx(expected, abs=1e-3)
    # By 3 mm it moves a slice by three tenths of the way to each neighbour: less noise than the slice alone.
    assert means["weighted"]["noise_std_hu"] < 0.8 * means["low dose"]["noise_std_hu"]


def test_slices_are_read_when_their_turn_comes(scan, low, monkeypatch):
    read = []
    monkeypatch.setattr(stream, "read_slice", lambda *file: (read.append(file), read_slice(*file))[1])
    for pairs, each in (
        (simulated_pairs(scan, dose=0.25, seed=0, every=1, note=pytest.fail).pairs, 1),
        (paired(low, scan, every=1, note=pytest.fail).pairs, 2),
    ):
        read.clear()
        for taken in (1, 2, 3):
            next(pairs)
            assert len(read) == taken * each


def test_what_lies_outside_the_field_of_view_is_air_in_both_doses(tmp_path):
    volume_hu = noisy_volume()[:1].copy()
    volume_hu[:, :9, :7] = -3024
    write_torso(tmp_path / "in", volume_hu)
    assert kpn("simulate", tmp_path / "in", tmp_path / "low") == 0
    for pairs in (
        simulated_pairs(tmp_path / "in", dose=0.25, seed=0, every=1, note=pytest.fail),
        paired(tmp_path / "low", tmp_path / "in", every=1, note=pytest.fail),
    ):
        (pair,) = pairs.pairs
        assert (pair.low_hu[:9, :7] == AIR_HU).all()
        assert (pair.normal_hu[:9, :7] == AIR_HU).all()


def test_series_of_one_patient_are_one_patient_and_the_patient_is_not_named(tmp_path, capfd):
    volume_hu = noisy_volume()
    write_torso(tmp_path / "in" / "a", volume_hu[:1])
    write_torso(tmp_path / "in" / "b", volume_hu[1:2])
    write_torso(tmp_path / "in" / "c", volume_hu[2:], patient_id="ID-4711")
    assert kpn("evaluate", tmp_path / "in", "--json", tmp_path / "table.json") == 0
    printed = "".join(capfd.readouterr()) + (tmp_path / "table.json").read_text()
    assert json.loads((tmp_path / "table.json").read_text())["patients"] == 2
    (series, *_), _ = find_series(tmp_path / "in")
    for secret in ("Secret", "ID-0815", "ID-4711", series.uid, series.study_uid):
        assert secret not in printed


def test_a_function_of_ones_own_is_called_once_before_its_time_counts(scan, functions, capfd):
    assert kpn("evaluate", scan, "--denoiser", f"{functions}:same") == 0
    assert sys.modules[functions].calls == [(96, 128)] * (3 + 1)
    table = rows(capfd.readouterr().out)
    # A denoiser that does nothing has the low dose's numbers, seconds apart.
    assert table["all", f"{functions}:same"][:-1] == table["all", "low dose"][:-1]


def test_networks_are_called_by_their_stem_and_as_typed_where_that_is_no_name(scan, tmp_path, capfd):
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        shutil.copy(BOX, tmp_path / run / "best.tflite")
    words = [tmp_path / "first" / "best.tflite", tmp_path / "second" / "best.tflite", BOX]
    options = [option for word in words for option in ("--denoiser", word)]
    assert kpn("evaluate", scan, "--every", "3", *options, "--threads", "1") == 0
    names = [name for patient, name in rows(capfd.readouterr().out) if patient == "all"]
    assert names == ["low dose", str(words[0]), str(words[1]), "box"]


def test_a_keras_file_is_evaluated(scan, tmp_path, capfd):
    import keras

    network = keras.Sequential([keras.layers.Input((None, None, 1)), keras.layers.Rescaling(1.0, offset=7.0)])
    network.save(tmp_path / "best.keras")
    words = ["--denoiser", tmp_path / "best.keras", "--json", tmp_path / "table.json"]
    assert kpn("evaluate", scan, "--every", "3", *words) == 0
    low, shifted, *_ = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert shifted["denoiser"] == "best"
    assert shifted["means"]["mean_shift_hu"] - low["means"]["mean_shift_hu"] == pytest.approx(7, abs=1e-3)


def test_bm3d_is_evaluated_with_its_sigma_and_its_licence_is_named(tmp_path, capfd):
    write_torso(tmp_path / "in", noisy_volume()[:1])
    packages.warn_of_licence.cache_clear()
    words = ["--denoiser", "bm3d", "--denoiser", "bm3d:12.5", "--json", tmp_path / "table.json"]
    assert kpn("evaluate", tmp_path / "in", *words) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(r"notice: BM3D: .* non-commercial purposes only\n", err)
    assert ("all", "bm3d") in rows(out)
    about = json.loads((tmp_path / "table.json").read_text())["denoisers"]
    version = {"bm3d": importlib.metadata.version("bm3d"), "stage": "hard thresholding"}
    assert about["bm3d:12.5"] == {**version, "sigma_hu": 12.5}
    assert about["bm3d"] == {**version, "sigma_over_noise": bm3d.FACTOR}


def test_ksvd_is_evaluated_with_its_sigma(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(ksvd, "SAMPLE", 500)
    monkeypatch.setattr(ksvd, "ITERATIONS", 1)
    write_torso(tmp_path / "in", noisy_volume()[:1, 24:72, 30:91])
    words = ["--denoiser", "ksvd", "--denoiser", "ksvd:20", "--json", tmp_path / "table.json"]
    assert kpn("evaluate", tmp_path / "in", *words) == 0
    table = rows(capfd.readouterr().out)
    assert {name for patient, name in table if patient == "all"} == {"low dose", "ksvd", "ksvd:20"}
    about = json.loads((tmp_path / "table.json").read_text())["denoisers"]
    version = {"dictlearn": importlib.metadata.version("dictlearn"), "seed": 0}
    assert about["ksvd:20"] == {**version, "sigma_hu": 20}
    assert about["ksvd"] == {**version, "sigma_over_noise": ksvd.FACTOR}


def test_a_denoiser_that_fails_is_one_line_status_one_and_no_file(scan, functions, tmp_path, capfd):
    words = ["--denoiser", f"{functions}:broken", "--json", tmp_path / "table.json"]
    assert kpn("evaluate", scan, *words) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(
        rf"kpn evaluate: Denoiser '{functions}:broken' failed on slice series \.\.\.\d+ slice 1: "
        r"out of ideas\n",
        err,
    )
    assert [path.name for path in tmp_path.glob("*table*")] == []


def test_a_series_without_flat_tissue_is_skipped_with_a_line(scan, tmp_path, capfd):
    shutil.copytree(scan, tmp_path / "in" / "scan")
    write_torso(tmp_path / "in" / "air", np.full((1, 96, 128), -1000.0))
    assert kpn("evaluate", tmp_path / "in") == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(
        r"skipped: series \.\.\.\d+ \(B30f\): no flat soft tissue \(15 mm boxes\) to measure its noise in\n",
        err,
    )
    assert "3 slices of 1 patients" in out


def test_nothing_to_evaluate_is_status_one_and_said(tmp_path, capfd):
    write_torso(tmp_path / "in", np.full((1, 96, 128), -1000.0))
    assert kpn("evaluate", tmp_path / "in") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "kpn evaluate: Expected at least one pair in 25 % of the dose" in err


def test_series_this_package_made_are_no_normal_dose(scan, low, tmp_path, capfd):
    shutil.copytree(scan, tmp_path / "all" / "scan")
    shutil.copytree(low, tmp_path / "all" / "low")
    assert kpn("evaluate", tmp_path / "all") == 0
    out, err = capfd.readouterr()
    assert "3 slices" in out
    assert re.fullmatch(r"skipped: series .*: made by kpn_tf, no normal-dose scan to simulate from\n", err)
    assert kpn("evaluate", low, "--reference", tmp_path / "all") == 0


def test_a_corrupt_slice_is_named_and_spoils_the_status_alone(tmp_path, capfd):
    paths = write_torso(tmp_path / "in")
    paths[1].write_bytes(paths[1].read_bytes()[:-700])
    assert kpn("evaluate", tmp_path / "in") == 1
    out, err = capfd.readouterr()
    assert err.startswith(f"failed: {paths[1]}: ")
    assert "2 slices of 1 patients" in out


def shifted_corner(dataset):
    dataset.ImagePositionPatient = [dataset.ImagePositionPatient[0] + 2.8, *dataset.ImagePositionPatient[1:]]


def shifted_along(dataset):
    dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], dataset.ImagePositionPatient[2] + 1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda dataset: setattr(dataset, "ConvolutionKernel", "D45f"),
            "no normal-dose series of the same kernel",
        ),
        (
            lambda dataset: setattr(dataset, "SliceThickness", 5),
            "no normal-dose series of the same slice thickness",
        ),
        (lambda dataset: setattr(dataset, "PixelSpacing", [2.7, 2.7]), "series of the same pixel spacing"),
        (
            lambda dataset: setattr(dataset, "PatientID", "ID-4711"),
            "no normal-dose series of the same patient",
        ),
        (shifted_along, "no normal-dose series of the same positions"),
        (shifted_corner, "slice 1: lies elsewhere in its plane, or is tilted, against the normal dose"),
    ],
)
def test_what_does_not_match_is_said_and_never_compared(scan, low, tmp_path, capfd, change, complaint):
    shutil.copytree(scan, tmp_path / "normal")
    for path in (tmp_path / "normal").iterdir():
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)
    assert kpn("evaluate", low, "--reference", tmp_path / "normal") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert re.search(rf"^failed: series \.\.\.\d+.*{complaint}$", err, re.MULTILINE)
    assert "ID-4711" not in err


@pytest.mark.parametrize("doses", [("low", "normal"), ("normal",)], ids=["neither dose", "one dose"])
def test_slices_whose_headers_give_only_their_order_are_never_compared(scan, low, tmp_path, capfd, doses):
    for name, source in (("normal", scan), ("low", low)):
        shutil.copytree(source, tmp_path / name)
    for path in (path for name in doses for path in (tmp_path / name).rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        del dataset.ImagePositionPatient
        dataset.pop("SliceLocation", None)
        # Were they compared by it, one scan would be upside down.
        dataset.InstanceNumber = (
            10 - dataset.InstanceNumber if "low" in path.parts else dataset.InstanceNumber
        )
        dataset.save_as(path)
    assert kpn("evaluate", tmp_path / "low", "--reference", tmp_path / "normal") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "no normal-dose series of the same kind of position in its headers" in err


@pytest.mark.parametrize("content", ["def (", "raise RuntimeError('out of order')"])
def test_a_module_that_breaks_when_it_is_imported_is_one_sentence(
    scan, tmp_path, monkeypatch, capfd, content
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_module.py").write_text(content)
    assert kpn("evaluate", scan, "--denoiser", "broken_module:denoise") == 2
    err = capfd.readouterr().err
    assert re.fullmatch(r"kpn evaluate: Expected module:function that can be imported. Received: .*\n", err)


def test_a_function_that_leaves_the_program_has_failed(scan, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaving_module.py").write_text("import sys\n\ndef denoise(slice_hu):\n    sys.exit(0)\n")
    assert kpn("evaluate", scan, "--denoiser", "leaving_module:denoise") == 1
    assert "Denoiser 'leaving_module:denoise' failed on slice" in capfd.readouterr().err


def test_another_size_does_not_match(low, tmp_path, capfd):
    write_torso(tmp_path / "normal", noisy_volume()[:, :90])
    assert kpn("evaluate", low, "--reference", tmp_path / "normal") == 1
    assert "no normal-dose series of the same size" in capfd.readouterr().err


def test_slices_without_a_partner_are_counted_and_the_others_compared(scan, low, tmp_path, capfd):
    shutil.copytree(scan, tmp_path / "normal")
    (tmp_path / "normal" / "0002.dcm").unlink()
    assert kpn("evaluate", low, "--reference", tmp_path / "normal", "--json", tmp_path / "t.json") == 1
    out, err = capfd.readouterr()
    assert re.fullmatch(
        r"failed: series \.\.\.\d+ \(B30f\): 1 of 3 slices have no normal-dose slice there\n", err
    )
    assert "2 slices of 1 patients" in out
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["failures"] == 1
    assert [record["slice"][-1] for record in document["per_slice"][:2]] == ["1", "3"]


def test_two_series_that_match_equally_well_are_not_chosen_between(scan, low, tmp_path, capfd):
    shutil.copytree(scan, tmp_path / "normal" / "one")
    write_torso(tmp_path / "normal" / "two", noisy_volume() + 1)
    assert kpn("evaluate", low, "--reference", tmp_path / "normal") == 1
    assert "2 normal-dose series match it equally well" in capfd.readouterr().err


def test_the_series_of_the_same_study_is_preferred(scan, low, tmp_path, capfd):
    shutil.copytree(scan, tmp_path / "normal" / "one")
    write_torso(tmp_path / "normal" / "two", noisy_volume() + 1, changes={"StudyInstanceUID": "1.2.3"})
    assert kpn("evaluate", low, "--reference", tmp_path / "normal") == 0


def test_an_existing_file_is_replaced_whole(scan, tmp_path):
    (tmp_path / "table.md").write_text("old")
    assert kpn("evaluate", scan, "--every", "3", "--markdown", tmp_path / "table.md") == 0
    assert (tmp_path / "table.md").read_text(encoding="utf-8").startswith("**25 %")
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "the following arguments are required: INPUT"),
        (["SCAN", "--reference", "SCAN", "--seed", "0"], "--dose and --seed belong to simulated pairs"),
        (["absent"], "received absent, which does not exist"),
        (["SCAN", "--json", "absent/table.json"], "received absent/table.json"),
        (["SCAN", "--markdown", "SCAN"], "expected a file in a folder that can be written"),
        (["SCAN", "--convention", "brain"], "expected one of soft, lung, full, received brain"),
        (["SCAN", "--every", "0"], "argument --every: expected a whole number from 1 on"),
        (["SCAN", "--dose", "1"], "argument --dose: expected a fraction between 0 and 1"),
        (
            ["SCAN", "--denoiser", "egde"],
            f"shipped weights ({DEFAULT_WEIGHTS}) or a .tflite. Received: egde",
        ),
        (["SCAN", "--denoiser", "no.keras"], "Received: no.keras, which is none"),
        (["SCAN", "--denoiser", "SCAN/0001.keras"], "Expected a network that Keras can load"),
        (["SCAN", "--denoiser", "bm3d:much"], "Expected bm3d:SIGMA with a noise in HU above 0"),
        (["SCAN", "--denoiser", "bm3d:-5"], "Received: bm3d:-5"),
        (["SCAN", "--denoiser", "bm4d"], "Expected bm4d:SIGMA with a noise in HU above 0. Received: bm4d"),
        (["SCAN", "--denoiser", "bm3d:inf"], "Received: bm3d:inf"),
        (["SCAN", "--denoiser", "ksvd:"], "Expected ksvd:SIGMA with a noise in HU above 0"),
        (
            ["SCAN", "--denoiser", "absent:f"],
            "Received: absent:f (ModuleNotFoundError: No module named 'absent')",
        ),
        (["SCAN", "--denoiser", "FUNCTIONS:g"], "has no attribute 'g'"),
        (["SCAN", "--denoiser", "FUNCTIONS:number"], "number, which cannot be called"),
        (["SCAN", "--denoiser", "mean3", "--denoiser", "mean3"], "every denoiser once"),
    ],
)
def test_a_wrong_call_is_status_two_and_says_why(scan, functions, tmp_path, capfd, words, complaint):
    shutil.copytree(scan, tmp_path / "scan")
    (tmp_path / "scan" / "0001.keras").write_text("no archive")
    places = {"SCAN": str(tmp_path / "scan"), "FUNCTIONS": functions}
    words = [re.sub("SCAN|FUNCTIONS", lambda match: places[match[0]], word) for word in words]
    assert kpn("evaluate", *words) == 2
    err = capfd.readouterr().err
    assert complaint in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("denoiser", "extra"), [("bm3d", "baselines"), ("ksvd:20", "baselines"), ("best.keras", "train")]
)
def test_a_missing_extra_is_one_line_that_names_it(scan, monkeypatch, capfd, denoiser, extra):
    monkeypatch.setitem(extras.EXTRAS, extra, ("package_that_is_not_there",))
    assert kpn("evaluate", scan, "--denoiser", denoiser) == 2
    kind = {"train": "training"}.get(extra, extra)
    assert capfd.readouterr().err == (
        f"kpn evaluate: --denoiser {denoiser} needs the {kind} extra: in a checkout, pip install '.[{extra}]'\n"
    )


def test_every_option_and_field_is_in_the_guide(scan, tmp_path):
    assert kpn("evaluate", scan, "--every", "3", "--json", tmp_path / "t.json") == 0
    guide = (Path(__file__).parents[1] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    document = json.loads((tmp_path / "t.json").read_text())
    row, record = document["rows"][0], document["per_slice"][0]
    for field in [*document, *row, *record]:
        assert f"`{field}`" in guide, field
    for option in dataclasses.fields(EvaluateConfig):
        assert f"`--{option.name.replace('_', '-')}" in guide or f"`{option.name.upper()}`" in guide, (
            option.name
        )

"""`kpn simulate` makes low-dose series that say so, with every guarantee of `kpn denoise`."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from kpn_tf.denoiser import artefact
from kpn_tf.dicom import SimulatedBy, find_series, read_slice
from kpn_tf.dose.low_dose import low_dose
from kpn_tf.trained import DEFAULT_WEIGHTS
from tests.command import BOX, kpn
from tests.dicom_fixtures import item
from tests.noisy_torso import noisy_volume, write_torso


def contents(folder):
    """Path and hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan and its simulated quarter dose."""
    folder = tmp_path_factory.mktemp("simulated")
    write_torso(folder / "in")
    assert kpn("simulate", folder / "in", folder / "out") == 0
    return folder


def test_a_good_run_is_status_zero_and_a_line_per_series(tmp_path, capfd):
    write_torso(tmp_path / "in", noisy_volume()[:2])
    assert kpn("simulate", tmp_path / "in", tmp_path / "out") == 0
    out, err = capfd.readouterr()
    assert err == ""
    line, summary = out.splitlines()
    before_hu, after_hu = map(float, re.search(r"\(B30f\): 2 slices, noise (\S+) -> (\S+) HU", line).groups())
    assert 1.4 < after_hu / before_hu < 2.4
    assert summary.startswith("1 series, 2 slices in ")


def test_the_pixels_are_those_of_the_simulation_rounded(scan):
    (source,), _ = find_series(scan / "in")
    (derived,), _ = find_series(scan / "out")
    lower = low_dose((source,), dose=0.25, seed=0)
    for before, after in zip(source.slices, derived.slices, strict=True):
        expected_hu = lower(read_slice(before.path), source.pixel_spacing_mm, before.sop_instance_uid)
        np.testing.assert_array_equal(read_slice(after.path).slice_hu, np.rint(expected_hu))


def test_two_runs_write_the_same_bytes_whatever_the_files_are_called(scan, tmp_path):
    (tmp_path / "in").mkdir()
    for number, path in enumerate(sorted((scan / "in").iterdir())):
        shutil.copy(path, tmp_path / "in" / f"{9 - number}.dcm")
    assert kpn("simulate", tmp_path / "in", tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(scan / "out") != {}


def test_every_dose_and_seed_is_a_series_of_its_own(tmp_path):
    write_torso(tmp_path / "in", noisy_volume()[:1])
    for words in ([], ["--dose", "0.5"], ["--seed", "1"], ["--dose", "0.1"]):
        assert kpn("simulate", tmp_path / "in", tmp_path / "out", *words) == 0
    assert len(contents(tmp_path / "out")) == 4
    assert len({*contents(tmp_path / "out").values()}) == 4


def test_the_series_says_that_it_is_simulated_and_never_that_it_was_smoothed(scan):
    source = pydicom.dcmread(next((scan / "in").iterdir()))
    (path, *_) = (scan / "out").rglob("*.dcm")
    derived = pydicom.dcmread(path)
    assert derived.SeriesDescription == "Body of Secret Person SIMULATED 25% dose, research use"
    assert derived.ImageComments == (
        "SIMULATED low dose: noise was added. For research use, not for diagnosis."
    )
    assert re.fullmatch(
        r"SIMULATED low dose: 25% of the dose of the source\. Noise added by kpn_tf \S+, strength, texture and "
        r"correlation along z as measured in the flat soft tissue of the source series "
        r"\(slices SHA-256 [0-9a-f]{64}\), seed 0\. For research use, not for diagnosis\.",
        derived.DerivationDescription,
    )
    assert list(derived.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert derived.SeriesNumber > 10_000
    assert derived.SeriesNumber % 10_000 == source.SeriesNumber
    assert derived.StudyInstanceUID == source.StudyInstanceUID
    assert "DerivationCodeSequence" not in derived
    (image,) = derived.SourceImageSequence
    assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    (equipment,) = derived.ContributingEquipmentSequence
    assert (equipment.Manufacturer, equipment.ManufacturerModelName) == ("kpn_tf", "low-dose simulation")
    assert "DeviceSerialNumber" not in equipment


def test_codes_of_earlier_derivations_are_kept(tmp_path):
    code = item(CodeValue="113040", CodingSchemeDesignator="DCM", CodeMeaning="Lossy Compression")
    write_torso(tmp_path / "in", noisy_volume()[:1], changes={"DerivationCodeSequence": [code]})
    assert kpn("simulate", tmp_path / "in", tmp_path / "out") == 0
    (path,) = (tmp_path / "out").rglob("*.dcm")
    assert [code.CodeValue for code in pydicom.dcmread(path).DerivationCodeSequence] == ["113040"]


def test_dciodvfy_finds_no_fault_that_the_source_did_not_have(scan):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")

    def errors(folder):
        (path, *_) = sorted(folder.rglob("*.dcm"))
        said = subprocess.run(["dciodvfy", path], capture_output=True, check=False).stderr.decode("latin1")
        return {re.sub(r"<[^>]*>", "<>", line) for line in said.splitlines() if line.startswith("Error")}

    assert errors(scan / "out") <= errors(scan / "in")


def test_padding_comes_back_bit_for_bit(tmp_path):
    volume_hu = noisy_volume()[:1].copy()
    volume_hu[:, :9, :7] = -3024
    write_torso(tmp_path / "in", volume_hu)
    assert kpn("simulate", tmp_path / "in", tmp_path / "out") == 0
    (path,) = (tmp_path / "out").rglob("*.dcm")
    slice_hu = read_slice(path).slice_hu
    assert (slice_hu[:9, :7] == -3024).all()
    assert (slice_hu[:9, 7:] > -1800).all()


def test_nothing_is_overwritten(scan, capfd):
    before = contents(scan / "out")
    assert kpn("simulate", scan / "in", scan / "out") == 1
    assert "exists already and is never overwritten" in capfd.readouterr().err
    assert contents(scan / "out") == before


def test_a_simulated_series_is_denoised_but_never_simulated_again(scan, tmp_path, monkeypatch, capfd):
    shutil.copy(BOX, tmp_path / f"{DEFAULT_WEIGHTS}.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", tmp_path)
    (series,), _ = find_series(scan / "out")
    assert (series.simulated, series.denoised) == (True, False)
    assert kpn("simulate", scan / "out", tmp_path / "again") == 1
    assert "made by kpn_tf, no normal-dose scan to simulate from" in capfd.readouterr().err
    assert kpn("denoise", scan / "out", tmp_path / "out") == 0
    (series,), _ = find_series(tmp_path / "out")
    assert (series.simulated, series.denoised) == (True, True)


def test_a_series_without_flat_tissue_is_one_clear_line_and_status_one(tmp_path, capfd):
    write_torso(tmp_path / "in" / "air", np.full((2, 96, 128), -1000.0))
    write_torso(tmp_path / "in" / "body", noisy_volume()[:1])
    assert kpn("simulate", tmp_path / "in", tmp_path / "out") == 1
    out, err = capfd.readouterr()
    assert re.fullmatch(
        r"failed: series \.\.\.\d{12} \(B30f\): "
        r"no flat soft tissue \(15 mm boxes\) to measure its noise in\n",
        err,
    )
    assert out.splitlines()[-1].startswith("1 series, 1 slices in ")
    assert len(contents(tmp_path / "out")) == 1


def test_a_corrupt_slice_is_named_and_the_rest_is_written(tmp_path, capfd):
    paths = write_torso(tmp_path / "in")
    paths[1].write_bytes(paths[1].read_bytes()[:-700])
    assert kpn("simulate", tmp_path / "in", tmp_path / "out") == 1
    out, err = capfd.readouterr()
    assert err.startswith(f"failed: {paths[1]}: ")
    assert "2 of 3 slices" in out


def test_every_field_of_the_json_is_in_the_guide_and_nothing_of_the_patient(tmp_path, capfd):
    write_torso(tmp_path / "in", noisy_volume()[:1])
    assert kpn("simulate", tmp_path / "in", tmp_path / "out", "--json", "--dose", "0.5", "--seed", "3") == 0
    out = capfd.readouterr().out
    document = json.loads(out)
    assert (document["dose"], document["seed"], document["ok"]) == (0.5, 3, True)
    guide = (Path(__file__).parents[1] / "docs" / "simulate.md").read_text(encoding="utf-8")
    for field in ("dose", "seed"):
        assert f"`{field}`" in guide
    for secret in ("Secret", "ID-0815", find_series(tmp_path / "in")[0][0].uid):
        assert secret not in out


def test_nothing_simulated_is_said(tmp_path, capfd):
    (tmp_path / "in").mkdir()
    assert kpn("simulate", tmp_path / "in", tmp_path / "out") == 1
    assert capfd.readouterr().err == "kpn simulate: nothing was simulated\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--dose", "1"], "argument --dose: expected a fraction between 0 and 1, received 1"),
        (["--dose", "0"], "argument --dose: expected a fraction between 0 and 1, received 0"),
        (["--dose", "nan"], "argument --dose: expected a fraction between 0 and 1, received nan"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 on, received -1"),
        ([], "absent, which does not exist"),
    ],
)
def test_a_wrong_call_is_status_two_and_says_why(tmp_path, capfd, words, complaint):
    assert kpn("simulate", tmp_path / "absent", tmp_path / "out", *words) == 2
    assert complaint in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "text"), [({"dose": 1.0}, "dose between 0 and 1"), ({"seed": -1}, "seed of 0 or more")]
)
def test_an_impossible_simulation_has_no_identity(changes, text):
    with pytest.raises(ValueError, match=text):
        SimulatedBy(**{"version": "1", "dose": 0.25, "seed": 0, "texture_sha256": "ab"} | changes)


def test_a_real_slice_goes_through(ct_data, tmp_path):
    (source, *_) = sorted((ct_data / "normal_dose_test" / "covid_ny_sbu_single_slices").rglob("*.dcm"))
    assert kpn("simulate", source, tmp_path / "out") == 0
    (path,) = (tmp_path / "out").rglob("*.dcm")
    difference_hu = read_slice(path).slice_hu - read_slice(source).slice_hu
    assert not difference_hu[read_slice(source).padding].any()
    assert 10 < difference_hu[200:300, 200:300].std() < 80

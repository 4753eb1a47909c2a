"""`kpn denoise` and `kpn simulate` on volume files: the numbers of DICOM, in the format and the place of the source."""

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from kpn_tf import Denoiser, cli
from kpn_tf.dicom import find_series, read_slice, read_volume
from kpn_tf.phantom import torso
from tests.ct_series import write_ct_series
from tests.test_readme import blocks_of
from tests.volume_files import AS_DCM2NIIX, write_volume_file

EDGE = ("--weights", "edge", "--threads", "1")
ENDS = (".nii.gz", ".nrrd", ".mha", ".mhd")


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    write_ct_series(folder, slices=3)
    return folder


@pytest.fixture(scope="module")
def volume_hu(dicom):
    return read_volume(dicom).volume_hu


@pytest.fixture(scope="module")
def denoised_hu(dicom, tmp_path_factory):
    """What `kpn denoise` makes of the DICOM."""
    output = tmp_path_factory.mktemp("denoised")
    assert cli.main(["denoise", str(dicom), str(output), "--threads", "1"]) == 0
    return read_volume(output).volume_hu


@pytest.mark.parametrize("end", ENDS)
def test_a_volume_file_is_denoised_as_its_dicom_is_and_keeps_its_place(
    volume_hu, denoised_hu, tmp_path, end, capfd
):
    path = write_volume_file(tmp_path / f"scan{end}", volume_hu, stored=AS_DCM2NIIX)
    before = path.read_bytes()
    assert cli.main(["denoise", str(path), str(tmp_path / "out"), "--threads", "1"]) == 0
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == f"scan_denoised{end.replace('.mhd', '.mha')}"
    assert f"-> {written}" in capfd.readouterr().out
    # The twelve bits of the DICOM end at -1024 HU.
    np.testing.assert_array_equal(read_volume(written).volume_hu.clip(-1024, 3071), denoised_hu)
    source, derived = sitk.ReadImage(str(path)), sitk.ReadImage(str(written))
    for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
        assert getattr(derived, place)() == getattr(source, place)()
    assert path.read_bytes() == before
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_what_was_derived_says_so_and_is_not_derived_again(volume_hu, tmp_path, capfd):
    path = write_volume_file(tmp_path / "scan.nrrd", volume_hu)
    assert cli.main(["denoise", str(path), str(tmp_path), *EDGE]) == 0
    (denoised,), _ = find_series(tmp_path / "scan_denoised.nrrd")
    assert (denoised.denoised, denoised.strength) == (True, 1.0)
    words = sitk.ReadImage(str(tmp_path / "scan_denoised.nrrd"))
    assert Denoiser("edge", threads=1).identity.file_sha256 in words.GetMetaData("kpn_tf")
    assert "research use" in words.GetMetaData("ITK_FileNotes")
    capfd.readouterr()
    # The folder holds source and output: one is there already, the other is the package's own.
    assert cli.main(["denoise", str(tmp_path), str(tmp_path), *EDGE]) == 1
    errors = capfd.readouterr().err
    assert f"{tmp_path}/scan_denoised.nrrd exists already and is never overwritten" in errors
    assert "made by kpn_tf, never denoised twice" in errors
    assert sorted(os.listdir(tmp_path)) == ["scan.nrrd", "scan_denoised.nrrd"]


def test_files_of_one_name_keep_their_folders_and_strengths_have_names(volume_hu, tmp_path):
    for patient in ("a", "b"):
        write_volume_file(tmp_path / f"in/{patient}/ct.nii.gz", volume_hu + ord(patient))
    words = [
        "denoise",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        *EDGE,
        "--strength",
        "0.5",
        "1",
    ]
    assert cli.main(words) == 0
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.gz"))
    assert made == [f"{p}/ct_denoised{s}.nii.gz" for p in ("a", "b") for s in ("", "_50")]
    half, whole = (read_volume(tmp_path / "out" / name).volume_hu for name in (made[1], made[0]))
    blend = (volume_hu + ord("a") + whole) / 2
    assert np.abs(half - blend).max() <= 1  # both are whole HU


def test_a_torso_at_a_quarter_of_the_dose_is_what_its_dicom_would_be(tmp_path, capfd):
    body_hu = torso(112, 128, slices=3, pixel_spacing_mm=3.0).volume_hu
    noisy_hu = body_hu + np.random.default_rng(5).normal(0, 8, body_hu.shape)
    path = write_volume_file(tmp_path / "torso.nii.gz", noisy_hu.round(), spacing_mm=(3.0, 3.0, 3.0))
    assert cli.main(["simulate", str(path), str(tmp_path / "out"), "--dose", "0.25"]) == 0
    low = read_volume(tmp_path / "out/torso_dose_25.nii.gz").volume_hu
    (series,), _ = find_series(tmp_path / "out/torso_dose_25.nii.gz")
    assert series.simulated
    flat = np.s_[:, 50:60, 30:40]
    assert 1.5 < (low - body_hu)[flat].std() / (noisy_hu - body_hu)[flat].std() < 2.5
    # The same noise in the next run, whatever the file is called.
    shutil.copy(path, tmp_path / "other.nii.gz")
    assert cli.main(["simulate", str(tmp_path / "other.nii.gz"), str(tmp_path / "out")]) == 0
    np.testing.assert_array_equal(read_volume(tmp_path / "out/other_dose_25.nii.gz").volume_hu, low)


def test_a_lower_dose_has_the_format_and_the_place_of_its_source(tmp_path):
    body_hu = torso(112, 128, slices=1, pixel_spacing_mm=3.0).volume_hu
    sources = {}
    for seed, end in enumerate((".nii.gz", ".nrrd", ".mha")):
        noisy_hu = body_hu + np.random.default_rng(seed).normal(0, 8, body_hu.shape)
        path = tmp_path / f"in/of{end}"
        sources[end] = write_volume_file(
            path, noisy_hu.round(), spacing_mm=(3.0, 3.0, 3.0), stored=AS_DCM2NIIX
        )
    assert cli.main(["simulate", str(tmp_path / "in"), str(tmp_path / "out"), "--dose", "0.5"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == len(sources)
    for end, path in sources.items():
        source, low = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / f"out/of_dose_50{end}"))
        for place in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
            assert getattr(low, place)() == getattr(source, place)()
        assert abs((sitk.GetArrayFromImage(low) - sitk.GetArrayFromImage(source)).mean()) < 1


def test_a_mask_is_no_hu_and_left_out(volume_hu, tmp_path, capfd):
    write_volume_file(tmp_path / "in/scan.nii.gz", np.tile(volume_hu, (1, 2, 2)))
    write_volume_file(tmp_path / "in/mask.nii.gz", np.tile(volume_hu > 0, (1, 2, 2)))
    assert cli.main(["denoise", str(tmp_path / "in"), str(tmp_path / "out"), *EDGE]) == 0
    assert os.listdir(tmp_path / "out") == ["scan_denoised.nii.gz"]
    assert "its values are no HU: nothing lies below 0" in capfd.readouterr().err


def test_a_volume_file_that_is_cut_off_is_named_and_the_rest_goes_on(volume_hu, tmp_path, capfd):
    write_volume_file(tmp_path / "in/good.mha", volume_hu)
    bad = write_volume_file(tmp_path / "in/bad.nii.gz", volume_hu + 1)
    bad.write_bytes(bad.read_bytes()[:-50])
    assert cli.main(["denoise", str(tmp_path / "in"), str(tmp_path / "out"), *EDGE]) == 1
    assert os.listdir(tmp_path / "out") == ["good_denoised.mha"]
    assert f"failed: {bad}: cannot be read as .nii.gz: it is damaged, cut off" in capfd.readouterr().err


def test_the_name_of_a_file_is_no_folder_for_the_output(volume_hu, tmp_path, capfd):
    path = write_volume_file(tmp_path / "scan.nii.gz", volume_hu)
    assert cli.main(["denoise", str(path), str(tmp_path / "mine.nii.gz"), *EDGE]) == 2
    assert "Expected a folder for the output. Received:" in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["scan.nii.gz"]


def test_folders_of_dicom_are_named_so_that_a_person_finds_them(dicom, tmp_path, capfd):
    words = ["denoise", str(dicom), str(tmp_path), "--names", "description", "--json", *EDGE]
    assert cli.main(words) == 0
    (folder,) = tmp_path.iterdir()
    (series,) = json.loads(capfd.readouterr().out)["series"]
    assert folder.name == series["place"]
    assert folder.name == f"Body_of_Secret_Person_denoised_{series['derived_uid'][-12:]}"
    # A second run finds it again.
    assert cli.main(words) == 1
    assert "exists already and is never overwritten" in capfd.readouterr().err
    # Of a part, the rest joins it.
    first, *_ = sorted(folder.iterdir())
    first.unlink()
    assert cli.main(words) == 0
    assert len(list(folder.iterdir())) == 3
    assert [one.name for one in tmp_path.iterdir()] == [folder.name]


def test_an_unknown_kind_of_name_is_refused(dicom, tmp_path):
    from kpn_tf.batch import denoise

    with pytest.raises(
        ValueError, match=r"Expected names to be one of uid, description\. Received: 'patient'"
    ):
        denoise(dicom, tmp_path, Denoiser("edge", threads=1), names="patient")


def test_padding_of_a_volume_file_comes_back(volume_hu, tmp_path):
    volume_hu = volume_hu.copy()
    volume_hu[:, :4] = -2048
    path = write_volume_file(tmp_path / "scan.mha", volume_hu)
    assert cli.main(["denoise", str(path), str(tmp_path), *EDGE]) == 0
    assert (read_slice(tmp_path / "scan_denoised.mha", 2).slice_hu[:4] == -2048).all()


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The torso at a normal and a low dose, as files of two formats."""
    folder = tmp_path_factory.mktemp("scans")
    body_hu = torso(112, 128, slices=3, pixel_spacing_mm=3.0).volume_hu
    rng = np.random.default_rng(6)
    for name, noise_hu in (("low.nii.gz", 25), ("normal.nrrd", 8)):
        noisy_hu = (body_hu + rng.normal(0, noise_hu, body_hu.shape)).round()
        write_volume_file(folder / name, noisy_hu, spacing_mm=(3.0, 3.0, 3.0), stored=AS_DCM2NIIX)
    return folder / "low.nii.gz", folder / "normal.nrrd"


def test_volume_files_are_evaluated_against_each_other(scans, tmp_path):
    low, normal = map(str, scans)
    words = ["evaluate", low, "--reference", normal, "--json", str(tmp_path / "table.json")]
    words += ["--denoiser", "edge", "--threads", "1"]
    assert cli.main(words) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["slices"] == 3
    before, after = (row["means"] for row in table["rows"] if row["patient"] is None)
    assert after["psnr_soft_db"] > before["psnr_soft_db"]
    assert after["noise_std_hu"] < before["noise_std_hu"] / 2


def test_a_low_dose_of_a_volume_file_is_simulated_to_evaluate(scans, tmp_path):
    words = [
        "evaluate",
        str(scans[1]),
        "--every",
        "3",
        "--json",
        str(tmp_path / "table.json"),
        "--threads",
        "1",
    ]
    assert cli.main(words) == 0
    assert json.loads((tmp_path / "table.json").read_text())["slices"] == 1


def test_the_quality_of_a_volume_file_is_measured(scans, tmp_path, monkeypatch):
    monkeypatch.setattr("kpn_tf.cli.quality._draw", lambda report, folder: None)
    assert cli.main(["quality", str(scans[0]), str(tmp_path), "--denoiser", "edge", "--threads", "1"]) == 0
    quantities = json.loads((tmp_path / "quality.json").read_text())["quantities"]
    (noise,) = [one for one in quantities if one["name"] == "noise SD"]
    assert noise["values"]["edge"]["value"] < noise["values"]["before"]["value"] / 2


def test_a_report_shows_a_volume_file_with_its_reference(scans, tmp_path, capfd):
    report = tmp_path / "report.html"
    words = [
        "report",
        str(scans[0]),
        str(report),
        "--reference",
        str(scans[1]),
        "--patient",
        *EDGE,
    ]
    assert cli.main(words) == 0
    assert "3 slices" in capfd.readouterr().out
    page = report.read_text(encoding="utf-8")
    assert "slice 2 at" in page
    assert "not said, not said, not said" in page


def test_the_script_of_the_page_denoises_a_volume_file(volume_hu, denoised_hu, tmp_path, monkeypatch):
    (block,) = blocks_of((Path(__file__).parents[1] / "docs/volumes.md").read_text(encoding="utf-8"))
    write_volume_file(tmp_path / "scan.nii.gz", volume_hu, stored=AS_DCM2NIIX)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block.code, names)
    np.testing.assert_array_equal(names["quiet_hu"].round().clip(-1024, 3071), denoised_hu)

"""`kpn quality`: three kinds of data, tables and figures, one sentence for a wrong call."""

import importlib.util
import json
import re
import shutil
import sys

import pytest

from kpn_tf.denoiser import artefact
from kpn_tf.trained import DEFAULT_WEIGHTS
from tests.command import BOX, kpn
from tests.ct_series import write_ct_series
from tests.noisy_torso import noisy_volume, write_torso
from tests.test_quality import write_lcd


@pytest.fixture(autouse=True)
def weights(tmp_path_factory, monkeypatch):
    """An installation whose default weights are the 7x7 mean."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(BOX, folder / f"{DEFAULT_WEIGHTS}.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", folder)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    write_torso(folder)
    return folder


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The same patient with a quarter of the noise."""
    folder = tmp_path_factory.mktemp("quiet")
    write_torso(folder, noisy_volume(noise_hu=3.0))
    return folder


def test_a_series_gives_a_table_a_document_and_figures_twice(scan, tmp_path, capfd):
    pytest.importorskip("matplotlib")
    assert kpn("quality", scan, tmp_path / "new" / "out") == 0
    out, err = capfd.readouterr()
    assert err == ""
    folder = tmp_path / "new" / "out"
    figures = {f"{name}.{kind}" for name in ("nps", "nps_2d", "noise_map", "bias") for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == {"quality.json", "quality.md", *figures}
    assert (folder / "quality.md").read_text(encoding="utf-8") == out
    document = json.loads((folder / "quality.json").read_text())
    assert document["failures"] == 0
    assert document["samples"] == [{"dose": None, "count": 3}]
    assert (
        document["denoisers"][DEFAULT_WEIGHTS]["file_sha256"]
        == artefact.open_artefact(DEFAULT_WEIGHTS).file_sha256
    )
    noise = document["quantities"][0]
    assert (noise["name"], noise["unit"]) == ("noise SD", "HU")
    assert noise["values"]["before"]["value"] == pytest.approx(12, rel=0.15)
    (strength,) = (q for q in document["quantities"] if (q["name"], q["of"]) == ("gradient strength", "fine"))
    assert strength["changes"][DEFAULT_WEIGHTS]["high"] < -20
    for secret in ("Secret", "ID-0815", str(scan)):
        assert secret not in out + json.dumps(document)


def test_a_reference_gets_a_column_and_every_is_counted(scan, quiet, tmp_path, capfd):
    words = ["--reference", quiet, "--every", "2", tmp_path]
    assert kpn("quality", scan, *words) == 0
    out = capfd.readouterr().out
    assert "2 slices:" in out
    assert f"| quantity | of | before | {DEFAULT_WEIGHTS} | change | reference |" in out


def test_without_matplotlib_one_line_says_so_and_the_numbers_are_there(scan, tmp_path, capfd, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )
    assert kpn("quality", scan, "--every", "3", tmp_path) == 0
    assert (
        capfd.readouterr().err
        == "no figures: they need the figures extra: in a checkout, pip install '.[figures]'\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"quality.json", "quality.md"}


def test_a_low_contrast_phantom_has_detectability_at_every_dose(tmp_path, capfd):
    folder = write_lcd(tmp_path / "lcd", realisations=6)
    (folder / "dose_010/signal_present/signal_present_002.raw").write_bytes(b"short")
    assert kpn("quality", "--lcd", folder, tmp_path / "out") == 1
    out, err = capfd.readouterr()
    assert "signal_present_002.raw. Received: 5 bytes" in err
    assert "10 % of the dose, 6 slices:" in out
    assert "55 % of the dose, 6 slices:" in out
    assert json.loads((tmp_path / "out/quality.json").read_text())["failures"] == 1
    assert "| detectability d' | +6 HU" in out


def test_a_denoiser_that_fails_on_all_is_named_and_nothing_is_written(scan, tmp_path, capfd, monkeypatch):
    (tmp_path / "broken_quality.py").write_text("def denoise(slice_hu):\n    raise RuntimeError('no')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    words = ["--denoiser", "broken_quality:denoise", "--every", "3", tmp_path / "out"]
    assert kpn("quality", scan, *words) == 1
    err = capfd.readouterr().err
    assert "failed: Denoiser 'broken_quality:denoise' failed on slice" in err
    assert "Expected at least one slice in CT series" in err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: OUTPUT"),
        (["here", "--phantom", "torso"], "unrecognized arguments"),
        (["--phantom", "torso", "--lcd", "here"], "expected one of INPUT, --phantom torso and --lcd FOLDER"),
        (["--lcd", "here", "--reference", "here"], "--reference, --every and --beside belong to INPUT"),
        (["--phantom", "torso", "--every", "2"], "--reference, --every and --beside belong to INPUT"),
        (["here", "--dose", "0.5"], "--dose and --realisations belong to --phantom torso"),
        (["--lcd", "here", "--realisations", "9"], "--dose and --realisations belong to --phantom torso"),
        (["--phantom", "torso", "--dose", "0.5", "0.5"], "expected every dose once, received 0.5, 0.5"),
        (["nowhere"], "expected a file or a folder that exists, received nowhere"),
        (["--phantom", "torso", "--realisations", "5"], "expected a whole number from 6 on, received 5"),
        (["--phantom", "head"], "expected one of torso, received head"),
        (["here", "--denoiser", "nothing"], "nothing"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_status_two(words, message, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    places = [word for word in words[:1] if not word.startswith("--")]
    assert kpn("quality", *places, tmp_path / "out", *words[len(places) :]) == 2
    assert message in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_no_folder_is_refused_before_work_begins(tmp_path, capfd):
    (tmp_path / "file").touch()
    assert kpn("quality", "--phantom", "torso", tmp_path / "file") == 2
    assert "expected OUTPUT to be a folder that can be written" in capfd.readouterr().err
    assert kpn("quality", "--phantom", "torso") == 2
    assert "the following arguments are required: OUTPUT" in capfd.readouterr().err


def test_what_kpn_tf_denoised_is_named_and_left_out(scan, tmp_path, capfd):
    shutil.copytree(scan, tmp_path / "in")
    assert kpn("denoise", tmp_path / "in", tmp_path / "in" / "ours") == 0
    capfd.readouterr()
    assert kpn("quality", tmp_path / "in", tmp_path / "out") == 0
    told = capfd.readouterr()
    assert "denoised by kpn_tf already; give the series it was made from" in told.err
    assert json.loads((tmp_path / "out" / "quality.json").read_text())["samples"] == [
        {"dose": None, "count": 3}
    ]


def test_denoise_report_and_quality_call_the_same_noise_noise(tmp_path, capfd):
    write_torso(tmp_path / "in")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--json") == 0
    (series,) = json.loads(capfd.readouterr().out)["series"]
    assert kpn("quality", tmp_path / "in", tmp_path / "quality") == 0
    quality = json.loads((tmp_path / "quality" / "quality.json").read_text())["quantities"][0]["values"]
    assert kpn("report", tmp_path / "in", tmp_path / "report.html") == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    before, after = re.search(r'\["noise SD \(HU\)", "([\d.]+)", "([\d.]+)"', page).groups()
    for place, key, shown in (
        ("before", "noise_before_hu", before),
        (DEFAULT_WEIGHTS, "noise_after_hu", after),
    ):
        assert quality[place]["value"] == pytest.approx(series[key], rel=1e-4)
        assert float(shown) == pytest.approx(series[key], abs=0.051)


def test_series_that_were_made_of_the_slices_are_judged_as_they_are(scan, tmp_path, capfd):
    assert kpn("denoise", scan, tmp_path / "ours", "--strength", "0.5", "1") == 0
    assert kpn("quality", scan, tmp_path / "made") == 0
    capfd.readouterr()
    assert kpn("quality", scan, tmp_path / "given", "--beside", tmp_path / "ours") == 0
    tables = {
        name: json.loads((tmp_path / name / "quality.json").read_text())["quantities"]
        for name in ("made", "given")
    }
    kinds = list(tables["given"][0]["values"])
    assert kinds[0] == "before"
    assert sorted(kind.partition(", ")[2] for kind in kinds[1:]) == ["strength 0.5", "strength 1"]
    full = next(kind for kind in kinds if kind.endswith("strength 1"))
    for made, given in zip(tables["made"], tables["given"], strict=True):
        assert (made["name"], made["of"]) == (given["name"], given["of"])
        # Stored values are whole HU.
        assert given["values"][full]["value"] == pytest.approx(
            made["values"][DEFAULT_WEIGHTS]["value"], rel=0.02, abs=0.1
        )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["IN", "OUT", "--beside", "IN"],
            "Expected a series of the patient, size, pixel spacing and positions",
        ),
        (["BOTH", "OUT", "--beside", "IN"], "Expected one series in INPUT with --beside. Received: 2"),
        (["OUT", "--phantom", "torso", "--beside", "IN"], "--beside belong to INPUT"),
        (["IN", "OUT", "--beside", "none"], "expected a file or a folder that exists, received none"),
    ],
)
def test_what_cannot_be_judged_beside_the_input_is_one_sentence(scan, tmp_path, capfd, words, sentence):
    shutil.copytree(scan, tmp_path / "both" / "a")
    write_ct_series(tmp_path / "both" / "b", slices=1)
    places = {"IN": scan, "OUT": tmp_path / "out", "BOTH": tmp_path / "both"}
    assert kpn("quality", *(places.get(word, word) for word in words)) in (1, 2)
    assert sentence in capfd.readouterr().err

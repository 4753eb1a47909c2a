"""`kpn data idc`: an offline list, and downloads that end in whole series or in a line that says why not."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from kpn_tf.cli import extras
from kpn_tf.cli.data import DataConfig
from kpn_tf.datasets import download as downloading
from kpn_tf.datasets import idc, nih
from kpn_tf.datasets.idc import FULL_DOSE, LOW_DOSE
from kpn_tf.phantom import write_series
from tests.bucket import Bucket, serve
from tests.command import kpn
from tests.standin_index import two_patients, write_index


def standing_in(contents, folder, monkeypatch):
    """The index and the bucket of these contents."""
    paths, objects = write_index(folder, contents)
    monkeypatch.setattr(idc, "_index_files", lambda: paths)
    monkeypatch.setattr(downloading, "_WAITS_S", (0, 0, 0))
    return Bucket(objects)


@pytest.fixture
def bucket(tmp_path_factory, monkeypatch):
    """A bucket with two patients, which the command means from now on."""
    bucket = standing_in(two_patients(), tmp_path_factory.mktemp("index"), monkeypatch)
    with serve(bucket) as url:
        monkeypatch.setattr(downloading, "BUCKET_URL", url)
        yield bucket


TERMS = [
    "source: Imaging Data Commons, version 25",
    "licence: CC BY 4.0, https://by.example",
    "citation: Somebody, S. (2020). Standing in for CT.",
]


def test_alone_it_lists_patients_series_sizes_licence_and_citation_without_a_network(bucket, capfd):
    assert kpn("data", "idc") == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert bucket.requests == []
    first, second, total, *terms, hint = out.splitlines()
    for line, patient in ((first, "L001"), (second, "L002")):
        series = r"   3 slices   0\.0 MB"
        assert re.fullmatch(rf"{patient}  chest    Full Dose Images{series}  Low Dose Images{series}", line)
    assert total == "2 patients with both doses, 12 slices, 0.0 MB; 0 with the full dose only are left out"
    assert terms == TERMS
    assert hint == "download: kpn data idc --patients L001 L002 --output DIR"


def test_the_installed_index_is_listed(capfd):
    assert kpn("data", "idc") == 0
    out = capfd.readouterr().out
    assert re.search(
        r"^L004  abdomen  Full Dose Images +\d+ slices +\d+\.\d MB  Low Dose Images +\d+ slices +\d+\.\d MB$",
        out,
        re.MULTILINE,
    )
    total = r"^\d{3} patients with both doses, \d{5} slices, \d\d\.\d GB; \d+ with the full dose only are left out$"
    assert re.search(total, out, re.MULTILINE)
    assert "licence: CC BY 4.0, https://creativecommons.org/licenses/by/4.0/\n" in out


def test_downloaded_series_are_whole_and_their_terms_are_told(bucket, tmp_path, capfd):
    assert kpn("data", "idc", "--patients", "L002", "--output", tmp_path / "out") == 0
    out, err = capfd.readouterr()
    assert err == ""
    full, low = (tmp_path / "out" / "L002" / name for name in ("Full_Dose_Images", "Low_Dose_Images"))
    assert out.splitlines() == [
        f"L002 {FULL_DOSE}: 3 slices, 0.0 MB -> {full}",
        f"L002 {LOW_DOSE}: 3 slices, 0.0 MB -> {low}",
        *TERMS,
    ]
    for folder, description in ((full, FULL_DOSE), (low, LOW_DOSE)):
        contents = sorted(path.read_bytes() for path in folder.iterdir())
        assert contents == sorted(two_patients()["L002", description])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["L002"]


def test_a_second_call_only_looks(bucket, tmp_path, capfd):
    words = ["data", "idc", "--patients", "L001", "--patients", "L002", "--output", tmp_path]
    assert kpn(*words) == 0
    first = capfd.readouterr()
    bucket.requests.clear()
    assert kpn(*words) == 0
    assert capfd.readouterr() == first
    assert bucket.requests == []


def test_a_series_that_fails_is_named_and_the_others_are_fetched_and_the_next_call_completes_it(
    bucket, tmp_path, capfd
):
    broken = sorted(bucket.objects)[1]
    bucket.failures[broken] = [403]
    words = ["data", "idc", "--patients", "L001", "--output", tmp_path]
    assert kpn(*words) == 1
    out, err = capfd.readouterr()
    assert re.fullmatch(
        rf"failed: L001 {FULL_DOSE}: Expected an answer from .*{broken}. Received: HTTP status 403; "
        r"call again to go on\n",
        err,
    )
    assert f"L001 {LOW_DOSE}: 3 slices" in out
    assert not (tmp_path / "L001" / "Full_Dose_Images").exists()
    assert kpn(*words) == 0
    assert len(list((tmp_path / "L001" / "Full_Dose_Images").iterdir())) == 3


def test_a_folder_with_other_content_is_never_overwritten(bucket, tmp_path, capfd):
    mine = tmp_path / "L001" / "Low_Dose_Images" / "mine.dcm"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert kpn("data", "idc", "--patients", "L001", "--output", tmp_path) == 1
    assert "nothing is overwritten: move it away and call again" in capfd.readouterr().err
    assert mine.read_text() == "mine"


def test_what_does_not_fit_on_the_disk_is_not_begun(bucket, tmp_path, capfd, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=7)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert kpn("data", "idc", "--patients", "L001", "--output", tmp_path / "a" / "b") == 1
    line = capfd.readouterr().err
    assert re.fullmatch(r"kpn data idc: expected room for 0\.0 MB in .*/a/b, received 0\.0 MB\n", line)
    assert list(tmp_path.iterdir()) == []
    assert bucket.requests == []


def test_what_was_downloaded_is_what_the_nih_protocol_reads(tmp_path, monkeypatch):
    rng = np.random.default_rng(31)
    volumes = {
        (patient, description): rng.integers(-900, 900, (2, 31, 23))
        for patient in ("L002", "L004", "L006", "L014", "L019", "L033")
        for description in (FULL_DOSE, LOW_DOSE)
    }
    contents = {key: slices(volume_hu, *key, tmp_path) for key, volume_hu in volumes.items()}
    with serve(standing_in(contents, tmp_path, monkeypatch)) as url:
        monkeypatch.setattr(downloading, "BUCKET_URL", url)
        options = [word for patient, _ in volumes for word in ("--patients", patient)]
        assert kpn("data", "idc", *options, "--output", tmp_path / "idc") == 0
    pairs = list(nih(tmp_path / "idc", note=pytest.fail).pairs)
    assert [pair.patient for pair in pairs] == ["L033", "L033"]
    assert (np.stack([pair.low_hu for pair in pairs]) == volumes["L033", LOW_DOSE]).all()
    assert (np.stack([pair.normal_hu for pair in pairs]) == volumes["L033", FULL_DOSE]).all()


def slices(volume_hu, patient, description, folder):
    """A volume as files of the collection."""
    paths = write_series(
        volume_hu,
        folder / patient / description,
        pixel_spacing_mm=(0.7, 0.7),
        slice_spacing_mm=3,
        description=description,
        patient_name=patient,
    )
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.PatientID = patient
        dataset.save_as(path)
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "the following arguments are required: SOURCE"),
        (["tcia"], "expected one of idc, received tcia"),
        (["idc", "--patients", "L001"], "expected --patients and --output together, or neither"),
        (["idc", "--output", "out"], "expected --patients and --output together, or neither"),
        (
            ["idc", "--patients", "L067", "--patients", "L001", "--patients", "C009", "--output", "out"],
            "expected patients with both doses (kpn data idc lists them), received C009, L067",
        ),
        (["idc", "--patients", "L001", "--output", "FILE"], "which is a file"),
    ],
)
def test_a_wrong_call_is_status_two_and_says_why(bucket, tmp_path, capfd, monkeypatch, words, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("mine")
    assert kpn("data", *words) == 2
    out, err = capfd.readouterr()
    assert complaint in err
    assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]
    assert bucket.requests == []


def test_a_missing_extra_is_one_line_that_names_it(monkeypatch, capfd):
    monkeypatch.setitem(extras.EXTRAS, "data", ("package_that_is_not_there",))
    assert kpn("data", "idc") == 2
    assert capfd.readouterr().err == "kpn data needs the data extra: in a checkout, pip install '.[data]'\n"


def test_every_option_is_in_the_guide():
    guide = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    for option in dataclasses.fields(DataConfig)[1:]:
        assert f"`--{option.name}" in guide, option.name

"""Two patients, studies or series are never one, whatever an anonymiser has done to their headers."""

import hashlib
import json
import re
import zipfile

import pydicom
import pytest

from baselines.benchmark.patients import shared_patients
from kpn_tf import batch
from kpn_tf.batch.terminal import series_text
from kpn_tf.datasets.dose import dose
from kpn_tf.denoiser import Denoiser
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER
from kpn_tf.dicom import find_series
from kpn_tf.evaluation import paired
from kpn_tf.evaluation.matching import matched_series
from kpn_tf.report.selection import plan
from tests.command import BOX, kpn
from tests.ct_series import uid, write_ct_series
from tests.dicom_fixtures import save
from tests.enhanced_fixtures import enhanced_ct, slices_of

SAME = {"SeriesInstanceUID": uid("same"), "FrameOfReferenceUID": uid("frame")}
ONE_STUDY = {**SAME, "StudyInstanceUID": uid("one study")}
NO_STUDY = {**SAME, "StudyInstanceUID": ""}

# What two series have in common, and what tells the second from the first.
PAIRS = {
    "two studies": (SAME, {"PatientID": "P-2"}),
    "two studies of one patient": (SAME, {}),
    "two patients in one study": (ONE_STUDY, {"PatientID": "P-2"}),
    "two names without an ID": ({**ONE_STUDY, "PatientID": ""}, {"PatientName": "Other^Person"}),
    "two names with one ID": ({**ONE_STUDY, "PatientID": "Anonymous"}, {"PatientName": "L101"}),
    "two dates of birth": ({**ONE_STUDY, "PatientID": ""}, {"PatientBirthDate": "19710101"}),
    "two patients without a study": (NO_STUDY, {"PatientID": "P-2"}),
    "two patients without study and frame": ({**NO_STUDY, "FrameOfReferenceUID": ""}, {"PatientID": "P-2"}),
    "two dates without a study": (NO_STUDY, {"StudyDate": "20200102"}),
    "two accession numbers without a study": (NO_STUDY, {"AccessionNumber": "2"}),
    "two patients without a series": ({**ONE_STUDY, "SeriesInstanceUID": ""}, {"PatientID": "P-2"}),
}


@pytest.fixture(scope="module")
def box():
    return Denoiser(BOX, threads=1)


@pytest.fixture(params=PAIRS.values(), ids=PAIRS)
def two(request, tmp_path):
    """Folders of two series that are not one."""
    common, other = request.param
    write_ct_series(tmp_path / "in" / "p0", name="p0", **common)
    write_ct_series(tmp_path / "in" / "p1", name="p1", **{**common, **other})
    return tmp_path / "in"


def contents(folder):
    """Hash of every file below a folder, by its path."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.dcm")
    }


def derived_patients(output):
    """Whose the slices of each derived series are, and of which study."""
    return {
        folder.name: {
            (
                str(dataset.PatientID),
                str(dataset.PatientName),
                str(dataset.PatientBirthDate),
                dataset.StudyInstanceUID,
            )
            for dataset in map(pydicom.dcmread, folder.iterdir())
        }
        for folder in output.iterdir()
    }


def test_two_series_with_one_series_uid_become_two_derived_series(two, tmp_path, box):
    report = batch.denoise(two, tmp_path / "out", box)
    assert report.ok
    assert sorted((series.outcome, series.written) for series in report.series) == [("written", 3)] * 2
    assert len({series.source for series in report.series}) == 2
    assert [len(whose) for whose in derived_patients(tmp_path / "out").values()] == [1, 1]


def test_one_after_the_other_both_are_denoised(two, tmp_path, box):
    for folder in (two / "p0", two / "p1"):
        assert batch.denoise(folder, tmp_path / "out", box).ok
    one_by_one = derived_patients(tmp_path / "out")
    assert len(one_by_one) == 2
    batch.denoise(two, tmp_path / "together", box)
    assert derived_patients(tmp_path / "together") == one_by_one


def test_two_patients_whose_slices_share_their_uids_too_become_two_derived_series(tmp_path, box):
    for patient in ("P-1", "P-2"):
        write_ct_series(tmp_path / "in" / patient, name="a", PatientID=patient)
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert report.ok
    whose = derived_patients(tmp_path / "out")
    assert sorted(patient for (one,) in whose.values() for patient in one[:1]) == ["P-1", "P-2"]
    names = [path.name for path in (tmp_path / "out").rglob("*.dcm")]
    assert len(set(names)) == len(names) == 6


def test_one_slice_and_then_its_series_end_in_one_whole_series(tmp_path, box, capfd):
    sources = write_ct_series(tmp_path / "in", slices=4)
    assert kpn("denoise", sources[1], tmp_path / "out", "--weights", BOX) == 0
    (first,) = (tmp_path / "out").rglob("*.dcm")
    before = first.stat()
    capfd.readouterr()
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--weights", BOX) == 0
    out = capfd.readouterr().out
    assert re.match(r"series \.\.\.\d+ \(B30f\): 3 of 4 slices, 1 there before, noise ", out)
    assert "\n1 series, 3 slices in" in out
    after = first.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    batch.denoise(tmp_path / "in", tmp_path / "at once", box)
    assert contents(tmp_path / "out") == contents(tmp_path / "at once")
    # Now all of it is there, and the same call says so.
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--weights", BOX) == 1
    assert "exists already and is never overwritten" in capfd.readouterr().err


def test_what_is_no_slice_of_the_series_is_neither_kept_nor_overwritten_and_the_rest_is_made(tmp_path, box):
    write_ct_series(tmp_path / "in", slices=4)
    whole = batch.denoise(tmp_path / "in", tmp_path / "out", box).series[0].derived_uid
    half, other, missing, kept = sorted((tmp_path / "out" / whole).iterdir())
    half.write_bytes(half.read_bytes()[:-100])
    other.write_bytes(kept.read_bytes())
    missing.unlink()
    before = contents(tmp_path / "out")
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    (series,) = report.series
    assert not report.ok
    assert (series.outcome, series.slices, series.written, series.kept) == ("incomplete", 4, 1, 1)
    assert [refusal.path for refusal in report.refusals] == [half, other]
    assert {refusal.reason for refusal in report.refusals} == {
        "is no slice of this series, has the name of one and is never overwritten; move it"
    }
    assert before.items() < contents(tmp_path / "out").items()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [whole]
    for path in (half, other):
        path.unlink()
    assert batch.denoise(tmp_path / "in", tmp_path / "out", box).ok


def test_what_cannot_be_made_of_a_series_that_is_there_in_part_leaves_it_incomplete(tmp_path, box):
    sources = write_ct_series(tmp_path / "in", slices=3)
    content = sources[2].read_bytes()
    sources[2].write_bytes(content[:-100])
    assert batch.denoise(tmp_path / "in", tmp_path / "out", box).series[0].outcome == "incomplete"
    again = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert not again.ok
    assert [(one.outcome, one.written, one.kept) for one in again.series] == [("incomplete", 0, 2)]
    assert series_text(again.series[0], "OUT").startswith("series ...")
    sources[2].write_bytes(content)
    last = batch.denoise(tmp_path / "in", tmp_path / "out", box)
    assert last.ok
    assert [(one.outcome, one.written, one.kept) for one in last.series] == [("written", 1, 2)]


def test_enhanced_objects_of_two_patients_are_two_series_though_all_their_uids_are_alike(tmp_path, box):
    for patient in ("P-1", "P-2"):
        dataset = enhanced_ct(slices_of(3))
        dataset.PatientID = patient
        save(dataset, tmp_path / f"{patient}.dcm")
    report = batch.denoise(tmp_path, tmp_path / "out", box)
    assert report.ok
    assert [series.written for series in report.series] == [3, 3]
    whose = derived_patients(tmp_path / "out")
    assert sorted(patient for (one,) in whose.values() for patient in one[:1]) == ["P-1", "P-2"]


def test_a_name_that_is_only_padded_otherwise_is_the_same_patient(tmp_path):
    for index, path in enumerate(write_ct_series(tmp_path)):
        dataset = pydicom.dcmread(path)
        dataset.PatientName = "Secret^Person" + ("", "^^^", " ")[index]
        dataset.save_as(path)
    (series,) = find_series(tmp_path)[0]
    assert len(series.slices) == 3


def test_labels_are_short_and_no_two_series_share_one(two):
    found, _ = find_series(two)
    assert len({series.label for series in found}) == 2
    assert all(series.uid not in series.label for series in found)
    (alone,), _ = find_series(two / "p0")
    assert alone.label == alone.uid[-12:]


def test_a_report_and_its_patients_are_of_both(two):
    planned = plan(two, None, None, pytest.fail)
    assert planned.subject == "2 series: 6 slices"
    assert len(planned.patients().split("; ")) in (1, 2)


def test_two_patients_that_share_study_and_series_are_each_compared_with_themselves(tmp_path):
    for folder in ("low", "normal"):
        header = {"SeriesInstanceUID": uid(folder), "StudyInstanceUID": uid("one study")}
        for patient in ("P-1", "P-2"):
            name = f"{patient} {folder}"
            write_ct_series(tmp_path / folder / patient, name=name, PatientID=patient, **header)
    found = [find_series(tmp_path / folder)[0] for folder in ("low", "normal")]
    matched = matched_series(*found, pytest.fail)
    assert len(matched) == 2
    for _, pairs in matched:
        paths = [path for files in pairs for path in (files[0].path, files[1].path)]
        assert len({pydicom.dcmread(path).PatientID for path in paths}) == 1
    given = list(paired(tmp_path / "low", tmp_path / "normal", every=1, note=pytest.fail).pairs)
    assert len({pair.patient for pair in given}) == 2
    assert len({pair.name for pair in given}) == 6


# Words and names that anonymisers give to everybody; the last two differ by the dose, as in the AAPM-Mayo challenge.
EVERYBODY = [
    ({"PatientID": word, "PatientName": word, "PatientBirthDate": ""}, {})
    for word in ("Anonymous", "ANON", "", "de-identified", "0", "000000")
] + [
    ({"PatientID": "Anonymous", "PatientName": f"{name}_FD_3"}, {"PatientName": f"{name}_QD_3"})
    for name in ("L100", "X")
]


@pytest.fixture(params=EVERYBODY)
def anonymous(request, tmp_path):
    """Both doses of two patients of one name, each dose a study of its own."""
    common, low = request.param
    for patient in ("p0", "p1"):
        for folder, header in (("low", {**common, **low}), ("normal", common)):
            write_ct_series(
                tmp_path / folder / patient,
                name=f"{patient} {folder}",
                FrameOfReferenceUID=uid(patient),
                **header,
            )
    return tmp_path


def test_patients_that_are_called_alike_are_two_in_tables_and_each_is_compared_with_itself(anonymous):
    pairs = list(paired(anonymous / "low", anonymous / "normal", every=1, note=pytest.fail).pairs)
    assert [pair.patient for pair in pairs] == [pairs[0].patient] * 3 + [pairs[3].patient] * 3
    assert pairs[0].patient != pairs[3].patient
    frames = {
        series.label: series.frame_of_reference_uid
        for folder in ("low", "normal")
        for series in find_series(anonymous / folder)[0]
    }
    matched = matched_series(
        *(find_series(anonymous / folder)[0] for folder in ("low", "normal")), pytest.fail
    )
    assert len(matched) == 2
    for low, slices in matched:
        partners = {pydicom.dcmread(normal.path).FrameOfReferenceUID for _, normal in slices}
        assert partners == {frames[low.label]}


def test_patients_that_are_called_alike_may_train_and_test_but_not_if_they_share_a_study(anonymous):
    assert shared_patients({"train": anonymous / "low" / "p0", "test": anonymous / "low" / "p1"}) is None
    assert shared_patients({"train": anonymous / "low" / "p0", "test": anonymous / "low"}) == (
        "train",
        "test",
    )


def test_patients_that_are_called_alike_have_no_normal_dose_of_theirs_to_be_found_by_name(anonymous):
    notes = []
    stream = dose(anonymous, note=lambda line, failure: notes.append(line))
    assert stream.slices == 0
    assert all("no PatientID to find the normal dose of the same patient by" in line for line in notes)
    assert len(notes) == 2


def test_two_studies_of_a_patient_with_a_number_are_one_patient(tmp_path):
    for name in ("first", "second"):
        write_ct_series(tmp_path / name, name=name)
    one, other = find_series(tmp_path)[0]
    assert one.study_uid != other.study_uid
    assert one.patient == other.patient


def test_a_derived_slice_leads_to_the_exported_file_and_to_its_weights(tmp_path, capfd):
    write_ct_series(tmp_path / "in", slices=1)
    options = ("denoise", tmp_path / "in", tmp_path / "out", "--weights", "edge", "--json")
    assert kpn(*options) == 0
    told = json.loads(capfd.readouterr().out)["network"]
    (path,) = (tmp_path / "out").rglob("*.dcm")
    (equipment,) = pydicom.dcmread(path).ContributingEquipmentSequence
    file = WEIGHTS_FOLDER / "edge.tflite"
    with zipfile.ZipFile(file) as archive:
        weights_sha256 = json.loads(archive.read("metadata.json"))["weights_sha256"]
    file_sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert equipment.DeviceSerialNumber == file_sha256
    assert (
        f"file SHA-256 {file_sha256}, weights SHA-256 {weights_sha256}" in equipment.ContributionDescription
    )
    assert (told["file_sha256"], told["weights_sha256"]) == (file_sha256, weights_sha256)
    assert kpn("info", "--json") == 0
    (edge,) = (one for one in json.loads(capfd.readouterr().out)["networks"] if one["name"] == "edge")
    assert (edge["file_sha256"], edge["weights_sha256"]) == (file_sha256, weights_sha256)
    assert f"| `weights_sha256` | {weights_sha256} |" in (WEIGHTS_FOLDER / "edge.md").read_text()

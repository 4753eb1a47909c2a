"""The NIH protocol: real layouts, patients that never cross, and a sentence for everything that does not match."""

import importlib
import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from kpn_tf.batch import denoise
from kpn_tf.datasets import nih, nih_twin
from kpn_tf.datasets.nih import CONVENTION
from kpn_tf.datasets.nih_twin import PATIENTS
from kpn_tf.denoiser import Denoiser
from kpn_tf.dicom import DicomError, read_slice
from kpn_tf.evaluation import evaluate, stream
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.metrics import flat_regions, regional_noise_std_hu
from kpn_tf.phantom import torso
from tests.command import BOX
from tests.fresh_process import run_without

ROOT = Path(__file__).parents[1]

TRAIN, TEST = PATIENTS[:5], PATIENTS[5:]


@pytest.fixture(scope="module")
def written(written_nih_twin):
    """The twin, written once."""
    return written_nih_twin


@pytest.fixture
def twin(written, tmp_path):
    """A twin to spoil."""
    return shutil.copytree(written, tmp_path / "twin")


def pairs_of(folder, part, note=pytest.fail, every=1):
    given = nih(folder, part=part, every=every, note=note)
    pairs = list(given.pairs)
    assert len(pairs) <= given.slices
    return pairs


def notes_of(folder, part="test"):
    """The pairs, and `(line, failure)` of everything that was left out."""
    notes = []
    return pairs_of(folder, part, note=lambda *note: notes.append(note)), notes


def rewritten(folder, **changes):
    """Changes attributes of every slice of a folder."""
    for path in folder.rglob("*.IMA"):
        dataset = pydicom.dcmread(path)
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def same(pairs, others):
    return [(pair.patient, pair.name) for pair in pairs] == [
        (pair.patient, pair.name) for pair in others
    ] and all(
        np.array_equal(pair.low_hu, other.low_hu) and np.array_equal(pair.normal_hu, other.normal_hu)
        for pair, other in zip(pairs, others, strict=True)
    )


def test_the_first_five_patients_train_and_the_others_test(written):
    for part, patients in (("train", TRAIN), ("test", TEST)):
        given = nih(written, part=part, note=pytest.fail)
        assert given.data_name == f"NIH protocol, {part} part: {', '.join(patients)}"
        pairs = list(given.pairs)
        assert given.slices == len(pairs) == 3 * len(patients)
        assert list(dict.fromkeys(pair.patient for pair in pairs)) == list(patients)


def test_a_pair_holds_the_two_files_of_one_place(written):
    first, second, third = pairs_of(written, "test")[:3]
    for pair, name in ((first, "0001.IMA"), (second, "0002.IMA"), (third, "0003.IMA")):
        for hu, dose in ((pair.low_hu, "quarter_3mm"), (pair.normal_hu, "full_3mm")):
            np.testing.assert_array_equal(hu, read_slice(written / "L906" / dose / name).slice_hu)
        assert pair.pixel_spacing_mm == (2.4, 2.4)


def test_the_twins_low_dose_has_three_times_the_variance_of_its_normal_dose_on_top(written):
    for pair in pairs_of(written, "train", every=3) + pairs_of(written, "test", every=3):
        regions = flat_regions(pair.normal_hu, pair.pixel_spacing_mm)
        added_hu = regional_noise_std_hu(pair.low_hu - pair.normal_hu, regions)
        assert added_hu == pytest.approx(12 * np.sqrt(3), rel=0.01)
        # What looks flat in a noisy slice is where its noise happens to be weak.
        assert 8 < regional_noise_std_hu(pair.normal_hu, regions) < 13


def test_the_twin_is_seven_patients_in_the_layout_of_the_challenge(written):
    assert sorted(str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()) == [
        f"{patient}/{dose}/000{number}.IMA"
        for patient in PATIENTS
        for dose in ("full_3mm", "quarter_3mm")
        for number in (1, 2, 3)
    ]


def test_the_twin_has_the_same_bytes_each_time_and_overwrites_nothing(written, tmp_path, monkeypatch):
    module = importlib.import_module("kpn_tf.datasets.nih_twin")
    # Two of its patients take a third of the time; the torso stays that of all.
    monkeypatch.setattr(module, "torso", lambda rows, columns, slices, *mm: torso(rows, columns, 21, *mm))
    monkeypatch.setattr(module, "PATIENTS", PATIENTS[:2])
    monkeypatch.setattr(module, "_SLABS", module._SLABS[:2])
    nih_twin(tmp_path)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) == 2 * 2 * 3
    assert all((written / path.relative_to(tmp_path)).read_bytes() == path.read_bytes() for path in paths)
    with pytest.raises(
        FileExistsError, match=r"Expected no L901 in .*\. Received: one; name an empty folder"
    ):
        nih_twin(tmp_path)


def test_the_twin_is_evaluated_like_real_pairs(written):
    given = nih(written, note=pytest.fail)
    assert CONVENTION in WINDOWS
    results = evaluate({"same": np.copy}, given.pairs, (CONVENTION,), data_name=given.data_name)
    assert [row.patient for row in results.rows[::2]] == [None, *TEST]
    assert 25 < results.rows[0].means["psnr_soft_db"] < 35


# Where the dose and the patient stand in unpacked archives of the challenge, as public descriptions show them.
@pytest.mark.parametrize(
    "layout",
    [
        "full_3mm/{patient}/{dose}",
        "{dose}/{patient}",
        "{dose}/{patient}/1.2.840",
        "3mm B30/{dose}/{dose}/{patient}/{dose}",
        "{patient}/{dose}/series",
        "{patient}/quarter_3mm/{dose}",
    ],
)
def test_the_layouts_of_the_challenge_are_one_protocol(written, twin, tmp_path, layout):
    for patient in PATIENTS:
        for dose in ("full_3mm", "quarter_3mm"):
            target = tmp_path / "other" / layout.format(patient=patient, dose=dose)
            target.mkdir(parents=True, exist_ok=True)
            for path in (twin / patient / dose).iterdir():
                path.rename(target / f"{dose}{path.name}")
    rewritten(tmp_path / "other", PatientID="Anonymous", PatientName="Anonymous")
    assert same(pairs_of(tmp_path / "other", "test"), pairs_of(written, "test"))


def as_collection(twin, patients=PATIENTS):
    """Moves patients of the twin into the layout of the collection: nothing but headers says what a series is."""
    for patient in patients:
        for dose, description in (("full_3mm", "Full dose images"), ("quarter_3mm", "Low Dose Images")):
            rewritten(twin / patient / dose, SeriesDescription=description, PatientID=patient)
            (twin / patient / dose).rename(twin / f"{patient.lower()} {description[:3]}")


def test_series_of_the_collection_are_told_by_their_descriptions(written, twin):
    as_collection(twin)
    assert same(pairs_of(twin, "train", every=3), pairs_of(written, "train", every=3))


def test_both_layouts_may_lie_in_one_folder(written, twin):
    as_collection(twin, ("L902", "L907"))
    assert same(pairs_of(twin, "test"), pairs_of(written, "test"))


def test_a_number_that_comes_from_both_layouts_is_refused_because_it_is_two_people(twin):
    shutil.copytree(twin / "L907" / "full_3mm", twin / "L907 of the collection")
    rewritten(twin / "L907 of the collection", SeriesDescription="Full Dose Images", PatientID="L907")
    for path in (twin / "L907 of the collection").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = "1.2.3"
        dataset.save_as(path)
    with pytest.raises(ValueError, match=r"not one person in both\. Received: L907 from both"):
        nih(twin, part="train", note=lambda line, failure: None)


def test_regions_are_not_mixed_because_their_low_doses_differ(twin):
    (twin / "L902").rename(twin / "C902")
    with pytest.raises(ValueError, match=r"Expected patients of one region.*Received: C and L; give each"):
        nih(twin, part="train", note=pytest.fail)


def test_slices_are_read_when_their_turn_comes(written, monkeypatch):
    read = []
    monkeypatch.setattr(stream, "read_slice", lambda *file: (read.append(file), read_slice(*file))[1])
    given = nih(written, note=pytest.fail)
    for taken in (1, 2, 3):
        next(given.pairs)
        assert len(read) == 2 * taken


def test_every_nth_pair_is_taken_and_the_name_says_so(written):
    given = nih(written, every=2, note=pytest.fail)
    assert given.data_name.endswith("L906, L907, one slice in 2")
    assert [pair.name[-1] for pair in given.pairs] == ["1", "3"] * 2


def test_slices_without_a_partner_are_counted_for_either_dose(twin):
    (twin / "L906" / "quarter_3mm" / "0002.IMA").unlink()
    (twin / "L907" / "full_3mm" / "0003.IMA").unlink()
    pairs, notes = notes_of(twin)
    assert [(pair.patient, pair.name[-1]) for pair in pairs] == [
        # A series of two slices: the number is that in the low dose.
        ("L906", "1"),
        ("L906", "2"),
        ("L907", "1"),
        ("L907", "2"),
    ]
    assert [(line[:4], line.split(": ")[2], failure) for line, failure in notes] == [
        ("L906", "1 of 3 slices have no low-dose slice there", True),
        ("L907", "1 of 3 slices have no normal-dose slice there", True),
    ]


@pytest.mark.parametrize(
    ("dose", "complaint"),
    [
        ("full_3mm", "L906: has no full-dose series (full_3mm, Full Dose Images)"),
        ("quarter_3mm", "L906: has no low-dose series (quarter_3mm, Low Dose Images)"),
    ],
)
def test_a_patient_without_one_of_the_doses_is_named_and_shifts_nobody_into_the_other_part(
    twin, dose, complaint
):
    shutil.rmtree(twin / "L906" / dose)
    pairs, notes = notes_of(twin)
    assert {pair.patient for pair in pairs} == {"L907"}
    assert notes == [(complaint, True)]
    assert {pair.patient for pair in pairs_of(twin, "train")} == set(TRAIN)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ConvolutionKernel": "D45f"}, "no normal-dose series of the same kernel"),
        ({"SliceThickness": 1}, "no normal-dose series of the same slice thickness"),
        ({"PixelSpacing": [2.3, 2.3]}, "no normal-dose series of the same pixel spacing"),
        ({"PatientID": "L907"}, "no normal-dose series of the same patient"),
    ],
)
def test_series_that_do_not_match_are_not_compared(twin, changes, complaint):
    rewritten(twin / "L906", ConvolutionKernel="B30f")
    rewritten(twin / "L906" / "quarter_3mm", **changes)
    pairs, notes = notes_of(twin)
    assert {pair.patient for pair in pairs} == {"L907"}
    lines = [line for line, failure in notes if failure]
    assert lines[0].startswith("L906: series ...")
    assert lines[0].endswith(complaint)
    assert lines[1].endswith(": 3 of 3 slices have no low-dose slice there")
    assert len(notes) == 2


def test_a_slice_that_lies_elsewhere_in_its_plane_is_not_compared(twin):
    rewritten(twin / "L906" / "quarter_3mm", ImagePositionPatient=[0, 0, 0])
    (twin / "L906" / "quarter_3mm" / "0001.IMA").unlink()
    (twin / "L906" / "quarter_3mm" / "0002.IMA").unlink()
    dataset = pydicom.dcmread(twin / "L906" / "full_3mm" / "0003.IMA")
    x, y, z = dataset.ImagePositionPatient
    rewritten(twin / "L906" / "quarter_3mm", ImagePositionPatient=[x + 2.4, y, z])
    pairs, notes = notes_of(twin)
    assert {pair.patient for pair in pairs} == {"L907"}
    assert any("slice 1: lies elsewhere in its plane" in line for line, failure in notes if failure)


def test_patients_are_never_compared_with_each_other(twin):
    # The same anatomy at the same place in the headers: only the folders tell the two apart.
    shutil.rmtree(twin / "L907" / "full_3mm")
    shutil.copytree(twin / "L906" / "full_3mm", twin / "L907" / "full_1mm")
    pairs, notes = notes_of(twin)
    assert {pair.patient for pair in pairs} == {"L906"}
    assert ("L907: has no full-dose series (full_3mm, Full Dose Images)", True) in notes


def test_other_series_are_left_out_with_a_line_and_their_names_stay_secret(twin):
    (twin / "L907" / "quarter_3mm").rename(twin / "L907" / "full_1mm")
    shutil.copytree(twin / "L901" / "full_3mm", twin / "Secret Person" / "full_3mm")
    rewritten(
        twin / "Secret Person", SeriesInstanceUID="1.2.3", PatientName="Secret^Person", PatientID="ID-4711"
    )
    for number, path in enumerate((twin / "Secret Person").rglob("*.IMA")):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.save_as(path)
    pairs, notes = notes_of(twin)
    assert {pair.patient for pair in pairs} == {"L906"}
    told = {line.split(": ", 1)[1]: failure for line, failure in notes}
    assert told == {
        "neither in full_3mm or quarter_3mm nor called Full Dose Images or Low Dose Images": False,
        "no folder or PatientID like L067 says whose it is": True,
        "has no low-dose series (quarter_3mm, Low Dose Images)": True,
    }
    assert not any(secret in line for line, _ in notes for secret in ("Secret", "ID-4711"))


def test_a_series_whose_slices_lie_with_two_patients_is_nobodys(twin):
    (twin / "L906" / "full_3mm" / "0003.IMA").rename(twin / "L907" / "full_3mm" / "0004.IMA")
    _, notes = notes_of(twin)
    assert any("its slices lie in folders of several doses or patients" in line for line, _ in notes)


def test_an_unfinished_download_is_not_used(twin):
    (twin / "L906" / "full_3mm").rename(twin / "L906" / "full_3mm.part")
    pairs, notes = notes_of(twin)
    assert {pair.patient for pair in pairs} == {"L907"}
    assert any(
        "its download is not finished; call kpn data idc again" in line for line, failure in notes if failure
    )


def test_what_this_package_made_is_no_scan(twin):
    low = twin / "L906" / "quarter_3mm"
    assert denoise(low, low / "denoised", Denoiser(BOX, threads=1)).ok
    pairs, notes = notes_of(twin)
    assert len(pairs) == 6
    assert [(line.split(": ")[1], failure) for line, failure in notes] == [("made by kpn_tf, no scan", False)]


@pytest.mark.parametrize(
    ("patients", "part", "message"),
    [
        (5, "test", r"Expected 6 or more patients, of whom 5 train. Received: 5; docs/data.md tells"),
        (0, "train", r"Expected 1 or more patients, of whom 5 train. Received: 0"),
        (7, "validation", r"Expected the part 'train' or 'test'. Received: 'validation'"),
    ],
)
def test_a_part_without_patients_is_refused(twin, patients, part, message):
    for patient in PATIENTS[patients:]:
        shutil.rmtree(twin / patient)
    with pytest.raises(ValueError, match=message):
        nih(twin, part=part, note=pytest.fail)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DicomError, match="absent: does not exist"):
        nih(tmp_path / "absent", note=pytest.fail)


def test_the_protocol_needs_neither_tensorflow_nor_an_extra(written, tmp_path):
    code = (
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from kpn_tf.datasets import nih, nih_twin\n"
        "print(len(list(nih(sys.argv[1], every=3, note=print).pairs)))\n"
    )
    extras = ("tensorflow", "keras", "scipy", "skimage", "duckdb", "idc_index_data")
    assert run_without(extras, code, tmp_path, written) == "2\n"


def test_the_guides_code_runs(written, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kpn_tf.datasets.nih_twin", lambda folder: shutil.copytree(written, folder))
    guide = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "data.md", "exec"), {})
    assert (
        "**NIH protocol, test part: L906, L907, one slice in 2**: 4 slices of 2 patients"
        in capsys.readouterr().out
    )

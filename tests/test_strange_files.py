"""Public files that commands fell over, as synthetic twins, from the command line to its exit status."""

import numpy as np
import pydicom
import pytest
from pydicom import uid

from tests.command import BOX, kpn
from tests.ct_series import uid as uid_of
from tests.ct_series import write_ct_series
from tests.dicom_fixtures import save
from tests.test_scope import body_hu, write_slice


def two_patients_of_one_series_uid(folder):
    for patient in ("P0", "P1"):
        names = {"PatientID": patient, "PatientName": f"Phantom^{patient}"}
        write_ct_series(folder / patient, name=patient, SeriesInstanceUID=uid_of("same"), **names)


def tomosynthesis(folder):
    tomo = {"RescaleType": "US", "ImageType": ["DERIVED", "PRIMARY", "TOMO"], "BodyPartExamined": "BREAST"}
    write_slice(folder / "a", body_hu(0, 1800, 2100, 40), **tomo)


def cone_beam(folder):
    write_slice(folder / "a", np.clip(body_hu() + 1000, 0, None), RescaleType="")


def ecg_in_implicit_vr(folder):
    (path,) = write_ct_series(folder, slices=1)
    dataset = pydicom.dcmread(path)
    for tag, vr, value in (
        (0x50000005, "US", 1),
        (0x50000020, "CS", "ECG"),
        (0x50003000, "OW", b"\1\0" * 100),
    ):
        dataset.add_new(tag, vr, value)
    save(dataset, path, uid.ImplicitVRLittleEndian)


def written_by_a_mac(folder):
    for path in write_ct_series(folder):
        apple_double = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ".ljust(4096, b"\0")
        path.with_name(f"._{path.name}").write_bytes(apple_double)


def pixels_that_nobody_describes(folder):
    for keyword in ("PhotometricInterpretation", "SamplesPerPixel"):
        (path,) = write_ct_series(folder, name=keyword, slices=1)
        dataset = pydicom.dcmread(path)
        delattr(dataset, keyword)
        dataset.save_as(path)


def maps_and_slices(folder):
    for number, kind in enumerate(("mg/ml", "Z", "%EDW", "ml/100ml/min", "HU_MOD", "HU", "")):
        write_ct_series(folder, name=f"map{number}", slices=1, RescaleType=kind)


# What is written, the exit status, derived series, and files or series that are skipped with a line.
@pytest.mark.parametrize(
    ("write", "status", "derived", "skipped"),
    [
        (two_patients_of_one_series_uid, 0, 2, 0),
        (tomosynthesis, 1, 0, 1),
        (cone_beam, 1, 0, 1),
        (ecg_in_implicit_vr, 0, 1, 0),
        (written_by_a_mac, 0, 1, 3),
        (pixels_that_nobody_describes, 0, 2, 0),
        (maps_and_slices, 0, 3, 4),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_folder_ends_as_its_users_would_expect(tmp_path, capfd, write, status, derived, skipped):
    write(tmp_path / "in")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--weights", BOX) == status
    lines = capfd.readouterr().err.splitlines()
    assert sum(line.startswith("skipped: ") for line in lines) == skipped
    assert not any(line.startswith("failed: ") for line in lines)
    made = list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else []
    assert len(made) == derived
    for folder in made:
        assert len({pydicom.dcmread(path).StudyInstanceUID for path in folder.iterdir()}) == 1


def test_patients_who_are_all_called_anonymous_are_counted_one_by_one(tmp_path, capfd):
    for patient in ("L100", "L101"):
        for dose, noise_hu in (("normal", 10.0), ("low", 20.0)):
            write_ct_series(
                tmp_path / dose / patient,
                name=f"{patient} {dose}",
                noise_hu=noise_hu,
                FrameOfReferenceUID=uid_of(patient),
                PatientID="Anonymous",
                PatientName=f"{patient}_{dose}",
            )
    assert kpn("evaluate", tmp_path / "low", "--reference", tmp_path / "normal") == 0
    assert "6 slices of 2 patients" in capfd.readouterr().out

"""Numbers that no scanner writes: each file is denoised or refused in a sentence, and stops no other."""

import itertools
import warnings

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from kpn_tf.batch import denoise
from kpn_tf.denoiser import Denoiser
from tests.dicom_fixtures import UID_ROOT, ct_dataset
from tests.test_denoiser import BOX

KEYWORDS = (
    "PixelSpacing",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "SliceLocation",
    "InstanceNumber",
    "AcquisitionNumber",
    "NumberOfFrames",
    "WindowWidth",
    "SeriesNumber",
)
VALUES = (
    "0", "-1", "1e-300", "1e36", "1e300", "1e400", "nan", "inf", "99999999999999999999", "1\\1e-300",
    "1e300\\1e300", "1e308\\1e308\\1e308", "1\\0\\0\\0\\1\\1e-200", "\\" * 3000, "",
)  # fmt: skip


def test_numbers_beyond_reason_are_denoised_or_refused_and_stop_nothing(tmp_path):
    made = []
    for number, (keyword, value) in enumerate(itertools.product(KEYWORDS, VALUES), start=1):
        dataset = ct_dataset(series=number)
        dataset.StudyInstanceUID = f"{UID_ROOT}.99.{number}"
        vr, raw = dictionary_VR(keyword), value.encode() + b" " * (len(value) % 2)
        dataset[keyword] = RawDataElement(Tag(keyword), vr, len(raw), raw, 0, False, True)
        path = tmp_path / "in" / f"{keyword}-{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom, of what is meant to be wrong
            try:
                pydicom.dcmwrite(path, dataset, enforce_file_format=True)
            except OverflowError:  # pydicom makes an integer of infinity
                continue
        made.append(path)
    report = denoise(tmp_path / "in", tmp_path / "out", Denoiser(BOX, threads=1))
    derived = list((tmp_path / "out").rglob("*.dcm"))
    refused = {refusal.path for refusal in report.refusals}
    assert len(derived) + len(refused) >= len(made)
    assert len(derived) > len(made) / 3
    for path in derived:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.isfinite(hu).all()

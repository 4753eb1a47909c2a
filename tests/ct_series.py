"""Small CT series for tests: a disc of soft tissue with noise in air, written as DICOM with pydicom alone."""

import hashlib

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


def uid(*words):
    """A valid UID that depends on the words alone."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()
    return f"2.25.{int(digest[:30], 16)}"


def write_ct_series(
    folder, *, name="a", slices=3, rows=52, columns=44, kernel="B30f", noise_hu=25.0, **header
):
    """Writes a series into a folder and returns its files in order of position.

    `header` are attributes of every slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name) + slices)
    y, x = np.mgrid[:rows, :columns]
    disc = np.hypot((y - rows / 2) / rows, (x - columns / 2) / columns) < 0.45
    paths = []
    for index in range(slices):
        slice_hu = np.where(disc, 60.0, -1000.0) + rng.normal(0, noise_hu, disc.shape)
        dataset = _dataset(name, index, slice_hu, kernel)
        dataset.update(header)
        paths.append(folder / f"{name}{index:03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _dataset(name, index, slice_hu, kernel):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid(name, "slice", index)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.StudyInstanceUID = uid(name, "study")
    dataset.SeriesInstanceUID = uid(name, "series")
    dataset.FrameOfReferenceUID = uid(name, "frame")
    dataset.Modality = "CT"
    dataset.Manufacturer = "test"
    dataset.PatientName = "Secret^Person"
    dataset.PatientID = "ID-0815"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.StudyDate = "20200101"
    dataset.StudyTime = "120000"
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.PositionReferenceIndicator = ""
    dataset.SeriesDescription = "Body of Secret Person"
    dataset.SeriesNumber = 3
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = index + 1
    dataset.KVP = 120
    dataset.ConvolutionKernel = kernel
    dataset.SliceThickness = 3
    dataset.PixelSpacing = [0.8, 0.8]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-20, -20, 3 * index]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = slice_hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    dataset.RescaleType = "HU"
    stored = np.clip(np.rint(slice_hu + 1024), 0, 4095).astype("<u2")
    dataset.PixelData = stored.tobytes()
    return dataset

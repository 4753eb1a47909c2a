"""A volume in HU written as a CT series that viewers, archives and validators take for one."""

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

# PS3.3 C.8.2.1: HU = stored * slope + intercept, the values most scanners write.
_SLOPE, _INTERCEPT = 1, -1024


def write_series(
    volume_hu, folder, *, pixel_spacing_mm, slice_spacing_mm, description, patient_name="PHANTOM^TORSO"
):
    """Writes a CT series, one file per slice; equal arguments make equal UIDs.

    Args:
        volume_hu: `(Z, H, W)` in HU from feet to head; rounded to whole HU, stored in 16 bits with a sign.
        folder: Where the files go: `0001.dcm` and so on, made if missing.
        pixel_spacing_mm: `(rows, columns)` distance between pixels.
        slice_spacing_mm: Distance between slices, written as their thickness as well.
        description: SeriesDescription, at most 64 characters.
        patient_name: PatientName. Series of one name share their study.

    Returns:
        The paths, from feet to head.

    Raises:
        ValueError: If the volume is not `(Z, H, W)` or does not fit into 16 bits.
        FileExistsError: If a file is there already; nothing is overwritten.
    """
    volume_hu = np.asarray(volume_hu)
    if volume_hu.ndim != 3 or 0 in volume_hu.shape:
        raise ValueError(f"Expected a volume (Z, H, W). Received shape: {volume_hu.shape}")
    stored = np.rint((volume_hu.astype(np.float64) - _INTERCEPT) / _SLOPE)
    limits = np.iinfo(np.int16)
    if not (stored.min() >= limits.min and stored.max() <= limits.max):
        raise ValueError(
            f"Expected {limits.min + _INTERCEPT} to {limits.max + _INTERCEPT} HU. "
            f"Received: {volume_hu.min()} to {volume_hu.max()}; clip the volume first"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stored = stored.astype("<i2")
    common = _common(stored, pixel_spacing_mm, slice_spacing_mm, description, patient_name)
    paths = []
    for i, pixels in enumerate(stored):
        path = folder / f"{i + 1:04d}.dcm"
        dataset = _slice(common, i, pixels, len(stored), pixel_spacing_mm, slice_spacing_mm)
        dataset.save_as(path, enforce_file_format=True, overwrite=False)
        paths.append(path)
    return paths


def _uid(*words):
    return generate_uid(entropy_srcs=["kpn_tf phantom", *map(str, words)])


def _decimal(value):
    return DSfloat(float(value), auto_format=True)  # PS3.5 6.2: 16 characters at most


def _common(stored, pixel_spacing_mm, slice_spacing_mm, description, patient_name):
    """What every slice of the series says alike."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = CTImageStorage
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.StudyInstanceUID = _uid("study", patient_name)
    # The pixels are part of the name: another noise is another series.
    pixels = hashlib.sha256(stored.tobytes()).hexdigest()
    geometry = (stored.shape, pixel_spacing_mm, slice_spacing_mm)
    dataset.SeriesInstanceUID = _uid("series", patient_name, description, pixels, *geometry)
    dataset.FrameOfReferenceUID = _uid("frame of reference", patient_name)
    dataset.PositionReferenceIndicator = ""
    # Any fixed moment: a date of today would make every run a different series.
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20210919"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.PatientBirthDate = ""
    dataset.Modality = "CT"
    dataset.Manufacturer = "kpn_tf"
    dataset.ManufacturerModelName = "digital torso"
    dataset.StudyDescription = "Digital torso"
    dataset.SeriesDescription = description
    dataset.PatientName = patient_name
    dataset.PatientID = "PHANTOM"
    dataset.PatientSex = "O"
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = "CHEST"
    dataset.KVP = "120"
    dataset.StudyID = dataset.SeriesNumber = dataset.AcquisitionNumber = "1"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [_decimal(mm) for mm in pixel_spacing_mm]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimal(slice_spacing_mm)
    dataset.Rows, dataset.Columns = stored.shape[1:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = _SLOPE, _INTERCEPT, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    return dataset


def _slice(common, index, pixels, slices, pixel_spacing_mm, slice_spacing_mm):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = _uid("slice", common.SeriesInstanceUID, index)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, common.copy(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.InstanceNumber = index + 1
    middle = np.array([*pixels.shape[::-1], slices]) / 2 - 0.5
    x, y, z = (np.array([0, 0, index]) - middle) * [*pixel_spacing_mm[::-1], slice_spacing_mm]
    dataset.ImagePositionPatient = [_decimal(mm) for mm in (x, y, z)]
    dataset.SliceLocation = dataset.ImagePositionPatient[2]
    dataset.PixelData = pixels.tobytes()
    return dataset

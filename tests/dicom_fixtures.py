"""CT datasets made in code: small, odd-sized, valid, in any transfer syntax that has an encoder."""

import warnings
from pathlib import Path

import gdcm
import numpy as np
from pydicom import dcmread, dcmwrite, uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

# OpenJPEG encodes nothing below 32 x 32.
ROWS, COLUMNS = 37, 33
UID_ROOT = "1.2.826.0.1.3680043.10.99999"


def stored_values(*, signed=True, bits_stored=16, seed=3, rows=ROWS, columns=COLUMNS):
    """Values from corner to corner of the range that CT uses: air to bone, both ends included."""
    low, high = (-1024, 1800) if signed else (0, min(2**bits_stored - 1, 3000))
    values = np.random.default_rng(seed).integers(low, high, (rows, columns), endpoint=True)
    values.flat[:2] = low, high
    return values.astype("<i2" if signed else "<u2")


def ct_dataset(
    stored=None, *, series=1, instance=1, position_mm=0.0, bits_stored=16, slope="1", intercept="0"
):
    """A CT Image Storage object that dciodvfy finds no error in."""
    stored = stored_values() if stored is None else stored
    ds = FileDataset(None, {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = uid.CTImageStorage
    ds.SOPInstanceUID = f"{UID_ROOT}.{series}.{instance}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20200102"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101112"
    ds.AccessionNumber = ds.ReferringPhysicianName = ds.StudyID = ""
    ds.Modality = "CT"
    ds.Manufacturer = "Nobody"
    ds.SeriesDescription = "abdomen"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Nobody^Secret", "P1", "19010203", "O"
    ds.SliceThickness = ds.SpacingBetweenSlices = "3"
    ds.KVP = "120"
    ds.PatientPosition = "HFS"
    ds.ConvolutionKernel = "SOFT"
    ds.StudyInstanceUID = f"{UID_ROOT}.99"
    ds.SeriesInstanceUID = f"{UID_ROOT}.{series}"
    ds.FrameOfReferenceUID = f"{UID_ROOT}.98"
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = series, 1, instance
    ds.PositionReferenceIndicator = ds.Laterality = ""
    ds.ImagePositionPatient = [-100, -120, position_mm]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.75, 0.75]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits_stored, bits_stored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = slope, intercept, "HU"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.add_new(0x7FE00010, "OW", stored.astype(stored.dtype.newbyteorder("<")).tobytes())
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def save(dataset, path, syntax=uid.ExplicitVRLittleEndian):
    """Writes a dataset in any transfer syntax; returns the path."""
    path = Path(path)
    if syntax in (uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom on OpenJPEG's encoder: "experimental"
            dataset.compress(syntax, generate_instance_uid=False)
    elif syntax == uid.ExplicitVRBigEndian:
        values = np.frombuffer(dataset.PixelData, "<u2")
        dataset["PixelData"].value = values.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        return _save_as_lossless_jpeg(dataset, path, syntax)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def _save_as_lossless_jpeg(dataset, path, syntax):
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dcmwrite(path, dataset, enforce_file_format=True)
    kind = {
        uid.JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
        uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }[syntax]
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    return path


def twelve_bit_jpeg(path):
    """A CT file around the 12-bit lossy JPEG frame that pydicom carries: no encoder for one is at hand."""
    frame_of = dcmread(get_testdata_file("JPGExtended.dcm", download=False))
    dataset = ct_dataset(np.zeros((frame_of.Rows, frame_of.Columns), "<u2"), bits_stored=12)
    dataset["PixelData"] = frame_of["PixelData"]
    dataset.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def item(**attributes):
    """A sequence item."""
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds

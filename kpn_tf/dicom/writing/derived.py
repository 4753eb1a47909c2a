"""A denoised slice as a DICOM object with an identity of its own.

What changes and what stays, attribute by attribute, is in `derive_slice`. Private attributes are left behind:
nobody can know which of them describe the pixels (histograms, thumbnails, second copies of the image occur),
and the source, which the derived slice names, still has them.
"""

import numpy as np
from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

from kpn_tf.dicom.attributes import numbers, text
from kpn_tf.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from kpn_tf.dicom.reading.decoding import has_embedded_overlay
from kpn_tf.dicom.reading.quiet import quiet_warnings
from kpn_tf.dicom.refusal import DicomError
from kpn_tf.dicom.transcoding import transcoded, value_bytes
from kpn_tf.dicom.writing.added_text import added_text
from kpn_tf.dicom.writing.derived_by import (
    MANUFACTURER,
    derived_series_number,
    derived_series_uid,
    derived_sop_instance_uid,
)
from kpn_tf.dicom.writing.lossy_history import set_lossy_history

# Attributes that describe the source's pixels or its file and would be false on the derived slice.
_DROPPED = [
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "IconImageSequence",
    "PixelDataProviderURL",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
]

# Set anew. Assigning to what is there would have pydicom decode the old value first.
_REPLACED = [
    "SOPClassUID",
    "Modality",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "SeriesNumber",
    "ImageType",
    "SourceImageSequence",
    "SamplesPerPixel",
    "HighBit",
]

# PS3.3 C.12.1.1.3: of data sets and of items, which here lose their private attributes.
_SIGNATURES = {tag_for_keyword(keyword) for keyword in ("MACParametersSequence", "DigitalSignaturesSequence")}


def derive_slice(ct, denoised_hu, derived_by):
    """Makes the DICOM object for a slice with less noise than its source, or, simulated, with more.

    - New: SOP and Series Instance UID, SeriesNumber (see `derived_series_number`), the pixels.
    - Extended: ImageType (value 1 DERIVED), SeriesDescription, ImageComments, DerivationDescription,
      ContributingEquipmentSequence, and, if denoised, DerivationCodeSequence; SourceImageSequence names the
      source, and the frame of an Enhanced CT object.
    - Kept: patient, study, frame of reference, geometry, acquisition, slope, intercept, bit layout, padding,
      windows, and the history of lossy compression (added where only the transfer syntax told of it).
    - Dropped: what described the source's pixels (smallest and largest value, icon, overlays inside the
      pixels, signatures) or its file (creation time: the same input then gives the same bytes), private
      attributes.

    Args:
        ct: The source, a `CTSlice`; left as it is.
        denoised_hu: `(H, W)` in HU, finite; the simulated slice where `derived_by` is a `SimulatedBy`.
        derived_by: A `DerivedBy` or a `SimulatedBy`.

    Returns:
        A `pydicom.FileDataset`, Explicit VR Little Endian, uncompressed. Values are rounded half to even,
        clipped to BitsStored, then cast; padding holds the source's stored values bit for bit.

    Raises:
        ValueError: If the shape differs from the source's or a value is not finite.

    Source: DICOM PS3.3 C.7.6.1 (General Image), C.12.1 (SOP Common), C.7.6.3 (Image Pixel), PS3.16 CID 7203.
    """
    source = ct.dataset
    name = getattr(source, "filename", None) or "dataset"
    denoised_hu = np.asarray(denoised_hu)
    if denoised_hu.shape != ct.slice_hu.shape:
        raise ValueError(f"Expected denoised_hu of shape {ct.slice_hu.shape}. Received: {denoised_hu.shape}")
    stored = _stored(np.where(ct.padding, ct.slice_hu, denoised_hu), ct.pixels)
    try:
        with quiet_warnings:
            derived = _copied(source)
            _set_identity(derived, source, ct.identity, derived_by)
            _set_derivation(derived, source, ct.identity, ct.frame, derived_by)
            set_lossy_history(derived, source, stored.nbytes, len(value_bytes(source, "PixelData")))
            _set_pixels(derived, source, stored, ct.pixels)
    except Exception as error:
        raise DicomError(name, f"has attributes that cannot be copied ({type(error).__name__})") from None
    return derived


def _stored(slice_hu, pixels):
    """HU -> stored integers; the opposite of reading, and exact for what was read."""
    if not np.isfinite(slice_hu).all():
        raise ValueError("Expected finite values in denoised_hu. Received: NaN or infinity")
    units = np.rint((slice_hu.astype(np.float64) - pixels.intercept_hu) / pixels.slope)
    return np.clip(units, *pixels.stored_range).astype("<i2" if pixels.signed else "<u2")


def _copied(source):
    """The source up to its pixel data in Explicit VR Little Endian, without what would be false."""
    # Groups from 7FE0 on hold the pixels, their offset tables, signatures over them and trailing padding.
    part = transcoded(source[:0x7FE00000], dropped=lambda tag: tag.is_private or tag in _SIGNATURES)
    false_now = {tag_for_keyword(keyword) for keyword in (*_DROPPED, *_REPLACED)}
    embedded_overlay = has_embedded_overlay(source)
    for tag in list(part.keys()):
        is_overlay = 0x6000 <= tag.group <= 0x601E
        if tag in false_now or (is_overlay and embedded_overlay):
            del part[tag]
    derived = FileDataset(None, part, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    derived.set_original_encoding(*part.original_encoding, part.original_character_set)
    return derived


def _set_identity(derived, source, uids, by):
    derived.SOPClassUID = uid.CTImageStorage
    derived.Modality = "CT"
    derived.SOPInstanceUID = derived_sop_instance_uid(uids.series_key, uids.slice_uid, by)
    derived.SeriesInstanceUID = derived_series_uid(uids.series_key, by)
    derived.StudyInstanceUID = uids.study_uid
    number = int((numbers(source, "SeriesNumber") or (0.0,))[0])
    derived.SeriesNumber = derived_series_number(number, by)
    derived["SeriesDescription"] = added_text(source, "SeriesDescription", after=by.series_suffix)
    derived["ImageComments"] = added_text(source, "ImageComments", before=f"{by.note}.")
    meta = derived.file_meta
    meta.MediaStorageSOPClassUID = derived.SOPClassUID
    meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME


def _set_derivation(derived, source, uids, frame, by):
    kind = [part.strip() for part in text(source, "ImageType").split("\\")]
    # Value 2 (from the examination itself or not) is the source's; value 3 is required for CT (C.8.2.1.1.1).
    derived.ImageType = ["DERIVED", *(kind[1:] if len(kind) > 2 else ["PRIMARY", "AXIAL"])]
    earlier = " Before that:" if text(source, "DerivationDescription") else ""
    history = added_text(source, "DerivationDescription", before=f"{by.description}{earlier}")
    derived["DerivationDescription"] = history
    if by.derivation_code:
        derived.DerivationCodeSequence = [
            *_taken(derived, "DerivationCodeSequence"),
            _code(*by.derivation_code),
        ]
    image = Dataset()
    image.ReferencedSOPClassUID = text(source, "SOPClassUID") or uid.CTImageStorage
    image.ReferencedSOPInstanceUID = uids.sop_instance_uid
    if frame is not None:
        image.ReferencedFrameNumber = frame
    image.PurposeOfReferenceCodeSequence = [_code("121322", "Source image for image processing operation")]
    derived.SourceImageSequence = [image]
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code("109102", "Processing Equipment")]
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = by.model
    equipment.SoftwareVersions = by.version
    if by.serial_number:
        equipment.DeviceSerialNumber = by.serial_number
    equipment.ContributionDescription = by.description
    derived.ContributingEquipmentSequence = [*_taken(derived, "ContributingEquipmentSequence"), equipment]


def _taken(dataset, keyword):
    """The items of a sequence, which is taken out of the dataset."""
    element = dataset.get_item(keyword)
    if element is not None:
        del dataset[element.tag]
    # One that is none of sequences has come through as bytes.
    return list(element.value) if isinstance(element, DataElement) and element.VR == "SQ" else []


def _code(value, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _set_pixels(derived, source, stored, pixels):
    derived.SamplesPerPixel = 1
    derived.HighBit = pixels.bits_stored - 1
    if not text(source, "PhotometricInterpretation"):
        derived.PhotometricInterpretation = "MONOCHROME2"
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if values := numbers(source, keyword):
            # The same 16 bits, with the sign of the pixels (C.7.5.1.1.2).
            value = np.array(int(values[0]) & 0xFFFF, np.uint16).view(stored.dtype)
            derived[keyword] = DataElement(
                tag_for_keyword(keyword), "SS" if pixels.signed else "US", int(value)
            )
    derived.add_new(tag_for_keyword("PixelData"), "OW", stored.tobytes())

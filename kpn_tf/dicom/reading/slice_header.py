"""What grouping and sorting need to know about the slices in a file, from its header alone."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from kpn_tf.dicom.attributes import items, numbers, text
from kpn_tf.dicom.identity import IDENTITY_TAGS, Identity, identity
from kpn_tf.dicom.reading import scope
from kpn_tf.dicom.reading.decoding import is_uncompressed
from kpn_tf.dicom.reading.header import check_is_ct_slice, multi_frame_name, pixel_header, read_dataset
from kpn_tf.dicom.reading.multi_frame import multi_frame
from kpn_tf.dicom.reading.volume_format import volume_suffix
from kpn_tf.dicom.refusal import DicomError, Refusal, of_frame
from kpn_tf.dicom.writing.derived_by import MANUFACTURER, told_strength
from kpn_tf.dicom.writing.simulated_by import SIMULATION

# Everything that is looked at in a file with one slice: pydicom skips the other elements, private blocks above all.
_TAGS = [
    *IDENTITY_TAGS,
    *scope.TAGS,
    "SOPClassUID",
    "Manufacturer",
    "Modality",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "InstanceNumber",
    "AcquisitionNumber",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ContributingEquipmentSequence",
]


@dataclass(frozen=True)
class SliceHeader:
    """One slice of a series that is not sorted yet; `orientation` is () where no position is usable.

    `sop_instance_uid` of its `identity` is the same for all frames of an object.
    """

    path: Path
    frame: int | None
    identity: Identity
    frame_of_reference_uid: str
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    position_mm: float | None
    slice_location_mm: float | None
    instance_number: int | None
    acquisition_number: int
    labels: tuple[str, str, str]  # description, kernel, manufacturer
    thickness_mm: float | None
    denoised: bool
    strength: float | None
    simulated: bool
    outside: tuple[str, ...]


def read_slice_headers(path):
    """Reads and checks the header of one file.

    Args:
        path: The file.

    Returns:
        `(headers, refusals)`: a `SliceHeader` for each slice, that is one, or one for each frame of an Enhanced
        CT object; and a `Refusal` for each frame that is left out.

    Raises:
        DicomError: If the file holds no CT slice or its pixels could not be read right.
    """
    # Opening a pipe would wait for ever. os.path: a file that may not even be looked at is refused when opened.
    if os.path.exists(path) and not os.path.isfile(path):
        raise DicomError(path, "is not a regular file", failure=False)
    dataset = read_dataset(path, stop_before_pixels=True, specific_tags=_TAGS)
    if multi_frame_name(dataset):
        return _frames(multi_frame(path))
    return [_slice_header(path, None, dataset)[0]], []


def _frames(file):
    headers, errors = [], {}
    for frame in range(1, file.frames + 1):
        try:
            header, pixels = _slice_header(file.path, frame, file.header(frame))
        except DicomError as error:
            errors[frame] = error
        else:
            # Before the other frames are looked at: there may be no pixels of them.
            file.locate(pixels)
            headers.append(header)
    if not headers and len({error.reason for error in errors.values()}) == 1:
        # Said once of the file, not a thousand times of its frames.
        raise errors[1]
    return headers, [
        Refusal(file.path, of_frame(frame, error.reason), error.failure) for frame, error in errors.items()
    ]


def _slice_header(path, frame, dataset):
    """A `SliceHeader` and the `PixelHeader` of a slice."""
    check_is_ct_slice(path, dataset)
    pixels = pixel_header(path, dataset)
    if is_uncompressed(text(dataset.file_meta, "TransferSyntaxUID")) and (
        path.stat().st_size < 2 * pixels.rows * pixels.columns
    ):
        raise DicomError(path, "is cut off: it is smaller than its pixel data")
    spacing_mm = numbers(dataset, "PixelSpacing")
    if len(spacing_mm) != 2 or min(spacing_mm) <= 0:
        raise DicomError(path, "has no usable PixelSpacing")
    orientation, position_mm = slice_position(dataset)
    thickness_mm = _first(numbers(dataset, "SliceThickness"))
    instance = _first(numbers(dataset, "InstanceNumber"))
    own = own_models(dataset)
    header = SliceHeader(
        path=path,
        frame=frame,
        identity=identity(path, dataset, frame),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        rows=pixels.rows,
        columns=pixels.columns,
        pixel_spacing_mm=spacing_mm,
        orientation=orientation,
        position_mm=position_mm,
        slice_location_mm=_first(numbers(dataset, "SliceLocation")),
        instance_number=None if instance is None else int(instance),
        acquisition_number=int(_first(numbers(dataset, "AcquisitionNumber")) or 0),
        labels=tuple(
            text(dataset, name) for name in ("SeriesDescription", "ConvolutionKernel", "Manufacturer")
        ),
        thickness_mm=thickness_mm if thickness_mm else None,
        denoised=any(model != SIMULATION for model in own),
        strength=_own_strength(dataset),
        simulated=SIMULATION in own,
        outside=() if own else scope.outside_scope(dataset, orientation),
    )
    return header, pixels


def read_header(file, keywords):
    """The header of a slice, without its pixels.

    Args:
        file: A `SliceFile`.
        keywords: Keywords of the attributes that are needed.

    Returns:
        A dataset, which may hold others as well; an empty one of a volume file.

    Raises:
        DicomError: If it cannot be read.
    """
    if volume_suffix(file.path):
        return Dataset()
    if file.frame is None:
        return read_dataset(file.path, stop_before_pixels=True, specific_tags=keywords)
    return multi_frame(file.path).header(file.frame)


def own_models(dataset):
    """Names of the models of this package that have changed a slice, by its ContributingEquipmentSequence."""
    return [text(item, "ManufacturerModelName") for item in _own_equipment(dataset)]


def _own_equipment(dataset):
    equipment = items(dataset, "ContributingEquipmentSequence")
    return [item for item in equipment if text(item, "Manufacturer") == MANUFACTURER]


def _own_strength(dataset):
    told = (told_strength(text(item, "ContributionDescription")) for item in _own_equipment(dataset))
    return next((strength for strength in told if strength is not None), None)


def _first(values):
    return values[0] if values else None


def slice_position(dataset):
    """Direction cosines and the position along their normal; ((), None) if the header has no usable ones."""
    corner_mm = np.array(numbers(dataset, "ImagePositionPatient"))
    cosines = np.array(numbers(dataset, "ImageOrientationPatient"))
    if corner_mm.shape != (3,) or cosines.shape != (6,):
        return (), None
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1.0, atol=0.01) or abs(row @ column) > 0.01:
        return (), None
    return tuple(cosines.tolist()), float(np.cross(row, column) @ corner_mm)

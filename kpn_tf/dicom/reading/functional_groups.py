"""One frame of an Enhanced CT object as the attributes of a single-frame CT slice.

An Enhanced object says once, for all frames, what they share, and frame by frame what differs, both in
sequences of attributes ("functional groups"). A slice of its own has the same attributes at the top.

Source: DICOM PS3.3 C.7.6.16 (Multi-frame Functional Groups), C.8.15.3 (CT functional groups), A.70 (Legacy).
"""

import copy

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import Tag

from kpn_tf.dicom.attributes import numbers, text

# Groups whose single item holds attributes that are true of the slice as they stand.
_GROUPS = (
    # First, because what a converter could not assign must not replace what it could.
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "FrameContentSequence",
    "FrameAnatomySequence",
    "DerivationImageSequence",
    "IrradiationEventIdentificationSequence",
    "CTImageFrameTypeSequence",
    "CTAcquisitionTypeSequence",
    "CTAcquisitionDetailsSequence",
    "CTTableDynamicsSequence",
    "CTPositionSequence",
    "CTGeometrySequence",
    "CTReconstructionSequence",
    "CTExposureSequence",
    "CTXRayDetailsSequence",
)

# The same statement about a frame and about a slice.
_RENAMED = {
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "FrameComments": "ImageComments",
    "FrameLaterality": "ImageLaterality",
    "ExposureTimeInms": "ExposureTime",
    "XRayTubeCurrentInmA": "XRayTubeCurrent",
    "ExposureInmAs": "Exposure",
}

# About the order of frames, or about an object with many of them.
_ONLY_MULTI_FRAME = {
    tag_for_keyword(keyword)
    for keyword in (
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "NumberOfFrames",
        "FrameIncrementPointer",
        "RepresentativeFrameNumber",
        "DimensionOrganizationSequence",
        "DimensionOrganizationType",
        "DimensionIndexSequence",
        "DimensionIndexValues",
        "ConcatenationUID",
        "SOPInstanceUIDOfConcatenationSource",
        "InConcatenationNumber",
        "InConcatenationTotalNumber",
        "ConcatenationFrameOffsetNumber",
        "StackID",
        "InStackPositionNumber",
        "TemporalPositionIndex",
        "FrameType",
        "FrameLabel",
        "FrameReferenceDateTime",
        "FrameAcquisitionDuration",
        "PixelPresentation",
        "VolumetricProperties",
        "VolumeBasedCalculationTechnique",
        "AcquisitionContextSequence",
        "PresentationLUTShape",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        *_RENAMED,
    )
}

# What a functional group has no say in: whose the object is, and how its pixels are stored.
_OF_THE_FILE = {
    tag_for_keyword(keyword)
    for keyword in (
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "Modality",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    )
}

# Type 2 in a slice (PS3.3 C.8.2.1, C.7.6.2): empty rather than missing. Enhanced objects need not have them.
_MAY_BE_EMPTY = ("KVP", "AcquisitionNumber", "SliceThickness")


def single_frame_elements(header, shared, own, number):
    """The elements of a frame as a slice of its own would have them; its InstanceNumber is its number.

    A group of the frame stands before the shared one of the same name. Where a group has several items (two
    tubes), none of them is taken: each would be half the truth.

    Args:
        header: Dataset of the whole object.
        shared: Item of SharedFunctionalGroupsSequence, or an empty dataset.
        own: The frame's item of PerFrameFunctionalGroupsSequence.
        number: Of the frame, from 1.

    Returns:
        Dict from tag to element; the elements are those of the arguments, not copies.
    """
    elements = {tag: element for tag, element in header.items() if tag not in _ONLY_MULTI_FRAME}
    # In a concatenation, an object cut into several files, the numbers run on (PS3.3 C.7.6.16.2.2.4).
    offset = numbers(header, "ConcatenationFrameOffsetNumber") or (0.0,)
    _set(elements, "InstanceNumber", str(int(offset[0]) + number))
    kind, technique = text(header, "ImageType"), text(header, "VolumeBasedCalculationTechnique")
    equipment = []
    for keyword in _GROUPS:
        group = own.get(keyword) or shared.get(keyword) or ()
        if len(group) != 1:
            continue
        for tag, element in group[0].items():
            if tag not in _ONLY_MULTI_FRAME and tag not in _OF_THE_FILE:
                elements[tag] = element
        kind = text(group[0], "FrameType") or kind
        technique = text(group[0], "VolumeBasedCalculationTechnique") or technique
        equipment += group[0].get("ContributingEquipmentSequence") or []
        for name, keyword_of_slice in _RENAMED.items():
            if not text(group[0], name):
                continue
            if dictionary_VR(keyword_of_slice) == "IS":
                # Enhanced objects hold mA, ms and mAs as floating point numbers, slices as integers.
                _set(elements, keyword_of_slice, _whole(group[0], name))
            else:
                elements[Tag(keyword_of_slice)] = _renamed(group[0].get_item(name), keyword_of_slice)
    if kind:
        _set(elements, "ImageType", _image_type([part.strip() for part in kind.split("\\")], technique))
    if Tag("ImageLaterality") in elements:
        elements.pop(Tag("Laterality"), None)  # one or the other (PS3.3 C.7.3.1)
    if equipment:
        # A converter notes itself in the object and may leave those before it among the unassigned attributes.
        own_equipment = header.get("ContributingEquipmentSequence") or []
        _set(elements, "ContributingEquipmentSequence", copy.deepcopy([*equipment, *own_equipment]))
    for keyword in _MAY_BE_EMPTY:
        if Tag(keyword) not in elements:
            _set(elements, keyword, None)
    return elements


def _set(elements, keyword, value):
    elements[Tag(keyword)] = DataElement(
        Tag(keyword), dictionary_VR(keyword), value, validation_mode=config.IGNORE
    )


def _renamed(element, keyword):
    """The same value, in its bytes, under another tag of the same VR."""
    if isinstance(element, RawDataElement):
        return element._replace(tag=Tag(keyword))
    return DataElement(Tag(keyword), element.VR, element.value, validation_mode=config.IGNORE)


def _whole(group, keyword):
    values = numbers(group, keyword)
    return str(round(values[0])) if len(values) == 1 else None


def _image_type(kind, technique):
    """FrameType as ImageType: value 3 of a slice knows AXIAL and LOCALIZER alone (PS3.3 C.8.2.1.1.1)."""
    scout = "LOCALIZER" in (part.upper() for part in kind)
    # MAX_IP, MPR and the like have an attribute of their own in Enhanced objects (PS3.3 C.8.16.2.1.1).
    further = [part for part in (*kind[3:4], technique) if part not in ("", "NONE", "MIXED")]
    return [*kind[:2], "LOCALIZER" if scout else "AXIAL", *further] if len(kind) > 1 else kind

"""Enhanced CT objects made of single-frame datasets: the same frames, described the other way."""

import copy

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from tests.dicom_fixtures import UID_ROOT, ct_dataset, item, stored_values

LEGACY_CT = "1.2.840.10008.5.1.4.1.1.2.2"

# Said by functional groups instead of at the top.
_MOVED = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "KVP", "ConvolutionKernel",
    "AcquisitionDate", "AcquisitionTime", "AcquisitionNumber", "Laterality",
)  # fmt: skip


def slices_of(count, **options):
    """Single-frame slices of one series, one above the other, each with pixels of its own."""
    return [
        ct_dataset(stored_values(seed=n, **options), instance=n + 1, position_mm=2.5 * n)
        for n in range(count)
    ]


def shared_groups(dataset, frame_type=("ORIGINAL", "PRIMARY", "VOLUME", "NONE")):
    """The item of SharedFunctionalGroupsSequence: all but the place, from one slice."""
    groups = {
        "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
        "PlaneOrientationSequence": ("ImageOrientationPatient",),
        "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
        "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    }
    shared = Dataset()
    for group, keywords in groups.items():
        setattr(shared, group, [item(**{keyword: dataset[keyword].value for keyword in keywords})])
    shared.CTImageFrameTypeSequence = [
        item(
            FrameType=list(frame_type),
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
        )
    ]
    shared.CTReconstructionSequence = [
        item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            ConvolutionKernel=dataset.ConvolutionKernel,
            ConvolutionKernelGroup="SOFT",
            ReconstructionDiameter="250",
            ReconstructionPixelSpacing=[0.75, 0.75],
            ReconstructionAngle=360.0,
            ImageFilter="NONE",
        )
    ]
    shared.IrradiationEventIdentificationSequence = [item(IrradiationEventUID=f"{UID_ROOT}.55")]
    shared.CTAcquisitionTypeSequence = [
        item(AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")
    ]
    shared.CTAcquisitionDetailsSequence = [
        item(
            RotationDirection="CW",
            RevolutionTime=0.5,
            SingleCollimationWidth=0.625,
            TotalCollimationWidth=40.0,
            TableHeight="140",
            GantryDetectorTilt="0",
            DataCollectionDiameter="500",
        )
    ]
    shared.CTGeometrySequence = [
        item(DistanceSourceToDetector="950", DistanceSourceToDataCollectionCenter=540.0)
    ]
    shared.CTXRayDetailsSequence = [
        item(KVP=dataset.KVP, FocalSpots="0.7", FilterType="BUTTERFLY", FilterMaterial="MIXED")
    ]
    shared.CTExposureSequence = [
        item(
            ExposureTimeInms=500.4,
            XRayTubeCurrentInmA=210.6,
            ExposureInmAs=105.5,
            ExposureModulationType="NONE",
            CTDIvol=7.25,
        )
    ]
    shared.CTTableDynamicsSequence = [item(TableSpeed=20.0, SpiralPitchFactor=0.9)]
    shared.FrameAnatomySequence = [
        item(
            FrameLaterality="U",
            AnatomicRegionSequence=[
                item(CodeValue="818983003", CodingSchemeDesignator="SCT", CodeMeaning="Abdomen")
            ],
        )
    ]
    return shared


def own_groups(dataset, number):
    """An item of PerFrameFunctionalGroupsSequence: place and time."""
    content = item(
        FrameAcquisitionNumber=7,
        FrameAcquisitionDateTime="20200102101112",
        FrameReferenceDateTime="20200102101112",
        FrameAcquisitionDuration=500.0,
        StackID="1",
        InStackPositionNumber=number,
        DimensionIndexValues=[1, number],
    )
    place = item(ImagePositionPatient=list(dataset.ImagePositionPatient))
    table = item(
        TablePosition=-float(dataset.ImagePositionPatient[2]),
        DataCollectionCenterPatient=[0.0, 0.0, float(dataset.ImagePositionPatient[2])],
        ReconstructionTargetCenterPatient=[0.0, 0.0, float(dataset.ImagePositionPatient[2])],
    )
    return item(FrameContentSequence=[content], PlanePositionSequence=[place], CTPositionSequence=[table])


def enhanced_ct(slices, sop_class=uid.EnhancedCTImageStorage):
    """An Enhanced CT object, native little endian, that holds the slices as its frames."""
    ds = copy.deepcopy(slices[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{UID_ROOT}.77.{ds.SeriesNumber}"
    ds.InstanceNumber = 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.PixelPresentation, ds.VolumetricProperties = "MONOCHROME", "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.AcquisitionContextSequence, ds.PresentationLUTShape = [], "IDENTITY"
    ds.ContentQualification, ds.BurnedInAnnotation, ds.LossyImageCompression = "RESEARCH", "NO", "00"
    ds.ManufacturerModelName, ds.DeviceSerialNumber, ds.SoftwareVersions = "Nothing", "1", "2"
    ds.AcquisitionDateTime, ds.AcquisitionDuration = "20200102101112", 1.0
    for keyword in _MOVED:
        del ds[keyword]
    organization = f"{UID_ROOT}.66"
    ds.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    ds.DimensionIndexSequence = [
        item(DimensionOrganizationUID=organization, DimensionIndexPointer=0x00209056),
        item(DimensionOrganizationUID=organization, DimensionIndexPointer=0x00209057),
    ]
    for index in ds.DimensionIndexSequence:
        index.FunctionalGroupPointer = 0x00209111
    ds.NumberOfFrames = len(slices)
    ds.SharedFunctionalGroupsSequence = [shared_groups(slices[0])]
    ds.PerFrameFunctionalGroupsSequence = [own_groups(part, n) for n, part in enumerate(slices, start=1)]
    ds["PixelData"].value = b"".join(part.PixelData for part in slices)
    return ds


def frame_pixels(dataset):
    """The stored values of a native object, `(frames, rows, columns)`."""
    kind = "<i2" if dataset.PixelRepresentation else "<u2"
    return np.frombuffer(dataset.PixelData, kind).reshape(-1, dataset.Rows, dataset.Columns)

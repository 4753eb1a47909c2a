"""A CT series, and the slices in it."""

from dataclasses import dataclass, field
from pathlib import Path

from kpn_tf.dicom.identity import series_key
from kpn_tf.neighbours import neighbours_of


@dataclass(frozen=True)
class SliceFile:
    """One slice of a series.

    Args:
        path: The file.
        position_mm: Position along the slice normal. Where the header has none: SliceLocation, or, last of
            all, the InstanceNumber, which only gives the order.
        sop_instance_uid: Its identity. That of a frame is a UID made from its object's and its number.
        frame: Its number, from 1, in an Enhanced CT object or a volume file; None where the file is the slice.
        thickness_mm: Its thickness, or None.
        acquisition_number: Of the acquisition that it comes from; 0 if the header has none.
    """

    path: Path
    position_mm: float
    sop_instance_uid: str
    frame: int | None = None
    thickness_mm: float | None = None
    acquisition_number: int = 0


@dataclass(frozen=True)
class Series:
    """Slices that share patient, study, series, size, orientation and pixel spacing.

    A series that mixes several of these geometries (a localizer's neighbours, reformats) becomes several `Series` with
    the same `key`. The same SeriesInstanceUID in two studies, or with two patients, is two series.

    Args:
        uid: Series Instance UID.
        study_uid: Study Instance UID.
        patient: Whose it is, as in `kpn_tf.dicom.identity.Identity`.
        patient_id: PatientID of its first slice, may be empty.
        frame_of_reference_uid: Of its positions, may be empty: one for all reconstructions of a scan.
        label: Names it in lines and tables without saying whose it is: the last characters of its UID, and of its
            study's where another series that was found ends alike.
        description: Series description, may be empty.
        kernel: Convolution kernel, may be empty; several values joined by a backslash, as in rules of the node.
        manufacturer: Manufacturer, may be empty.
        rows: Rows of every slice.
        columns: Columns of every slice.
        pixel_spacing_mm: Between rows, between columns.
        thickness_mm: Slice thickness, or None.
        slices: Sorted by position; phases at the same position all stay, in order of acquisition.
        denoised: True if this package denoised it: denoising it again would be a mistake.
        strength: At which this package denoised it; `None` if it did not, or not every slice alike.
        simulated: True if this package lowered its dose: lowering it again would be a mistake.
        outside: What of its slices networks were not made for, as `kpn_tf.dicom.reading.scope.outside_scope` tells it.
        ruler: Attribute of the headers that `position_mm` of the slices comes from: `"position_mm"`
            (ImagePositionPatient), `"slice_location_mm"`, or `"instance_number"`, which only gives the order.
    """

    uid: str
    study_uid: str
    patient: str
    patient_id: str = field(repr=False)
    frame_of_reference_uid: str
    label: str
    description: str
    kernel: str
    manufacturer: str
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None
    slices: tuple[SliceFile, ...]
    denoised: bool = False
    strength: float | None = None
    simulated: bool = False
    outside: tuple[str, ...] = ()
    ruler: str = "position_mm"

    @property
    def key(self):
        """Tells the series from all others: its UID alone does not."""
        return series_key(self.patient, self.study_uid, self.uid)

    def neighbours(self, index, slices):
        """The neighbours of a slice, as `kpn_tf.neighbours.neighbours_of` finds them.

        Args:
            index: Of the slice.
            slices: Slices of a stack, odd.

        Returns:
            List of `slices - 1` entries, by position: `(index, distance_mm)`, or `None` where there is no neighbour, as
            where the headers give only the order of the slices.
        """
        if self.ruler == "instance_number":
            return [None] * (slices - 1)
        return neighbours_of(index, [file.position_mm for file in self.slices], slices)

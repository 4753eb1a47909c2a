"""What a report shows: slices before and after, beside their normal dose and other series of the same places."""

from dataclasses import dataclass

import numpy as np

from kpn_tf.dicom import DicomError, SliceFile, read_slice, volume_suffix
from kpn_tf.dicom.attributes import numbers
from kpn_tf.dicom.reading.volume import even_spacing_mm
from kpn_tf.evaluation.matching import same_corner
from kpn_tf.hounsfield import AIR_HU
from kpn_tf.neighbours import Neighbour
from kpn_tf.report.planes import Planes, axial_sides


@dataclass(frozen=True)
class Beside:
    """A slice that the network saw beside the one that is shown.

    Args:
        file: Where it lies.
        slice_hu: `(H, W)` float32 in HU, NaN outside the field of view.
        step_hu: HU between neighbouring stored values.
        distance_mm: From the slice that is shown.
    """

    file: SliceFile
    slice_hu: np.ndarray
    step_hu: float
    distance_mm: float


@dataclass(frozen=True)
class ReportSlice:
    """One image of a report: a slice, or a plane across the slices of its series.

    Args:
        series: Name of its series.
        plane: `"axial"`, `"coronal"` or `"sagittal"`.
        name: Where it lies, as the page says it.
        images_hu: Dict of `(H, W)` float32 in HU, NaN outside the field of view: `"before"`, `"after"` and, where they
            are given, `"reference"` and those of other series by name.
        steps_hu: HU between neighbouring stored values of each image.
        pixel_spacing_mm: `(rows, columns)` distance between pixels.
        sides: Which side of the patient is on the left, on the right, at the top and at the bottom, a letter each;
            empty if headers do not say.
        file: Where the slice lies; `None` for a plane.
        beside: `Beside` for each other slice of the stack that the network saw, by position; `None` where there was
            none.
    """

    series: str
    plane: str
    name: str
    images_hu: dict[str, np.ndarray]
    steps_hu: dict[str, float]
    pixel_spacing_mm: tuple[float, float]
    sides: str = ""
    file: SliceFile | None = None
    beside: tuple[Beside | None, ...] = ()

    def filled_hu(self, kind):
        """An image with air outside the field of view, as the network sees it."""
        return np.nan_to_num(self.images_hu[kind], nan=AIR_HU)

    def neighbours(self):
        """What the network saw beside the slice, as `kpn_tf.Denoiser` takes it."""
        return [
            one and Neighbour(np.nan_to_num(one.slice_hu, nan=AIR_HU), one.distance_mm) for one in self.beside
        ]


def report_slices(planned, denoiser, note):
    """Reads and denoises what was planned, one slice in memory at a time, and the planes of one series.

    Args:
        planned: `kpn_tf.report.selection.Plan`.
        denoiser: `kpn_tf.Denoiser` of strength 1: the page weakens what it made.
        note: Callback `(line, failure)` for skipped inputs.

    Yields:
        `ReportSlice`: of each series first its slices, then its planes.
    """
    for shown in planned.shown:
        near = _Near(shown.series, denoiser.slices)
        spacing_mm = even_spacing_mm(shown.series)
        planes = Planes(shown, planned.planes, spacing_mm) if planned.planes and spacing_mm else None
        # Planes need every slice, whether it is shown or not.
        for index, file in enumerate(shown.series.slices):
            if planes or file in shown.chosen:
                beside = near.beside(index)
                read = _read(shown, index, near, beside, denoiser, note)
                if read and planes:
                    planes.add(index, *read[:3])
                if read and file in shown.chosen:
                    yield _slice(shown, file, *read)
        if planes and planes.reason:
            note(f"{shown.name}: {planes.reason}, so it has no coronal and sagittal planes", True)
        elif planes:
            for plane, name, images_hu, spacing, sides in planes.images():
                yield ReportSlice(shown.name, plane, name, images_hu, planes.steps_hu, spacing, sides)


class _Near:
    """The slices of a series, each decoded once while it is near.

    Args:
        series: `kpn_tf.dicom.Series`, whose slices are asked for in order.
        slices: Slices of a stack.
    """

    def __init__(self, series, slices):
        self._series, self._slices, self._read = series, slices, {}

    def read(self, index):
        """A slice; raises `DicomError` if it cannot be read."""
        if index not in self._read:
            file = self._series.slices[index]
            self._read[index] = read_slice(file.path, file.frame)
            # What no later stack holds.
            self._read = {i: ct for i, ct in self._read.items() if i > index - self._slices}
        return self._read[index]

    def beside(self, index):
        """`Beside` or `None` for each other slice of the stack; one that cannot be read is none."""
        found = []
        for place in self._series.neighbours(index, self._slices):
            try:
                ct = place and self.read(place[0])
            except DicomError:
                ct = None  # Said when its own turn comes.
            file = place and self._series.slices[place[0]]
            found.append(ct and Beside(file, _inside_hu(ct, ct.slice_hu), _step_hu(ct), place[1]))
        return tuple(found)


def _read(shown, index, near, beside, denoiser, note):
    """Header, images and their steps of a slice by kind, and what was seen beside it; `None` if it cannot be used."""
    file = shown.series.slices[index]
    try:
        ct = near.read(index)
        around = [one and Neighbour(one.slice_hu, one.distance_mm, np.isnan(one.slice_hu)) for one in beside]
        after_hu = denoiser(ct.slice_hu, ct.padding, around)
        beside = beside if denoiser.used_with(around).slices > 1 else ()
    except DicomError as error:
        note(str(error), True)
        return None
    except ValueError as error:
        note(f"{file.path}: {error}", True)
        return None
    images = {"before": (ct, ct.slice_hu), "after": (ct, _as_stored_hu(ct, after_hu))}
    for kind, partners in shown.partners.items():
        partner = partners.get(file) and _partner(ct, shown, partners[file], note)
        if partner:
            images[kind] = (partner, partner.slice_hu)
        elif kind == "reference":
            return None
    images_hu = {kind: _inside_hu(*image) for kind, image in images.items()}
    steps_hu = {kind: _step_hu(of) for kind, (of, _) in images.items()}
    return ct.dataset, images_hu, steps_hu, beside


def _partner(ct, shown, file, note):
    """The slice of another series, `None` if it cannot be shown beside this one."""
    try:
        partner = read_slice(file.path, file.frame)
    except DicomError as error:
        note(str(error), True)
        return None
    if not same_corner(ct.dataset, partner.dataset, shown.series.pixel_spacing_mm):
        note(f"{file.path}: lies elsewhere in its plane, or is tilted, against the slice that is shown", True)
        return None
    return partner


def _slice(shown, file, dataset, images_hu, steps_hu, beside):
    # As a PACS shows it: of an Enhanced CT object the frame, else the InstanceNumber.
    instance = numbers(dataset, "InstanceNumber")
    if file.frame is not None and not volume_suffix(file.path):
        name = f"frame {file.frame}"
    elif instance:
        name = f"image {instance[0]:.0f}"
    else:
        name = f"slice {shown.series.slices.index(file) + 1}"
    if shown.series.ruler != "instance_number":
        name += f" at {file.position_mm:.1f} mm"
    spacing_mm = shown.series.pixel_spacing_mm
    sides = axial_sides(dataset)
    return ReportSlice(shown.name, "axial", name, images_hu, steps_hu, spacing_mm, sides, file, beside)


def _inside_hu(ct, slice_hu):
    return np.where(ct.padding, np.float32(np.nan), slice_hu)


def _as_stored_hu(ct, slice_hu):
    """HU rounded to values that the derived series stores."""
    if ct.pixels is None:  # of a volume file, which has whole HU
        return np.rint(slice_hu).astype(np.float32)
    slope, intercept_hu = ct.pixels.slope, ct.pixels.intercept_hu
    return (np.rint((slice_hu - intercept_hu) / slope) * slope + intercept_hu).astype(np.float32)


def _step_hu(ct):
    """HU between neighbouring stored values."""
    return abs(float(ct.dataset.RescaleSlope))

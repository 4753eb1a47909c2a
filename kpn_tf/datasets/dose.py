"""DOSE: low- and normal-dose scans of the same patients that are not aligned, so that no pixel has a counterpart.

What is left to compare: pictures side by side, and the noise before and after, measured in the slice itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kpn_tf.dicom import DicomError, read_slice
from kpn_tf.dicom.identity import distinct_id
from kpn_tf.dose.low_dose import inside_hu
from kpn_tf.evaluation.matching import series_name
from kpn_tf.evaluation.stream import found_series, slice_name
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.png import grey

_SAME_MM = 0.02


@dataclass(frozen=True)
class Unpaired:
    """A low-dose slice, and a normal-dose slice of the same patient from about there in another scan.

    Args:
        low_hu: `(H, W)` in HU, what denoisers see.
        normal_hu: `(H', W')` in HU; no pixel of it belongs to one of the low dose.
        patient: Whose slices.
        name: Names the low-dose slice.
        low_spacing_mm: `(rows, columns)` distance between pixels of the low dose.
        normal_spacing_mm: The same of the normal dose.
    """

    low_hu: np.ndarray = field(repr=False)
    normal_hu: np.ndarray = field(repr=False)
    patient: str
    name: str
    low_spacing_mm: tuple[float, float]
    normal_spacing_mm: tuple[float, float]


@dataclass(frozen=True)
class UnpairedStream:
    """Slices to come.

    Args:
        data_name: What they are, for the table; it names no folder.
        slices: How many low-dose slices at most: what cannot be read is left out with a note.
        unpaired: `Unpaired`, made when asked for.
    """

    data_name: str
    slices: int
    unpaired: Iterator[Unpaired]


def dose(folder, *, every=1, note):
    """The low-dose slices of a folder, each beside a normal-dose slice of its patient.

    Which dose a scan has is said by where it lies, not by its header: clinical scans are modulated. A low-dose
    series goes with the longest normal-dose series of the same patient, kernel and slice thickness (noise of
    different ones cannot be compared), and each of its slices with that at the same share of the way from one
    end of the scan to the other.

    Args:
        folder: Holds the folders `low` and `normal`, which are searched recursively.
        every: Takes every n-th slice of a low-dose series.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        An `UnpairedStream`.

    Raises:
        DicomError: If one of the two folders does not exist.
    """
    lows = _scans(Path(folder) / "low", note, unless=lambda series: series.denoised)
    normals = [
        (series, distinct_id(series.patient_id))
        for series in _scans(
            Path(folder) / "normal", note, unless=lambda series: series.denoised or series.simulated
        )
    ]
    matched = []
    for low in lows:
        normal = _partner(low, normals, note)
        if normal:
            count = len(low.slices)
            matched.append((low, normal, range((min(every, count) - 1) // 2, count, every)))
    name = "DOSE: low and normal dose of the same patients, not aligned"
    if every > 1:
        name += f", one slice in {every}"
    return UnpairedStream(name, sum(len(numbers) for *_, numbers in matched), _unpaired(matched, note))


def side_by_side(unpaired, denoisers, convention):
    """One picture: the low dose, what every denoiser makes of it, and the normal dose.

    Args:
        unpaired: An `Unpaired`.
        denoisers: Callables `(H, W)` HU -> `(H, W)` HU; their order is that of the picture.
        convention: Window of the picture, a key of `kpn_tf.hounsfield.WINDOWS`.

    Returns:
        uint8, rows of the taller slice, columns of all; each slice pixel for pixel, black below a shorter one.

    Raises:
        ValueError: If the convention is unknown.
    """
    if convention not in WINDOWS:
        raise ValueError(f"Expected a convention from {sorted(WINDOWS)}. Received: {convention!r}")
    low_hu = np.asarray(unpaired.low_hu, np.float32)
    slices_hu = [low_hu, *(denoiser(low_hu.copy()) for denoiser in denoisers), unpaired.normal_hu]
    rows = max(len(slice_hu) for slice_hu in slices_hu)
    return np.hstack(
        [
            np.pad(grey(slice_hu, WINDOWS[convention]), ((0, rows - len(slice_hu)), (0, 0)))
            for slice_hu in slices_hu
        ]
    )


def _scans(folder, note, *, unless):
    scans = []
    for series in found_series(folder, note):
        if unless(series):
            note(f"{series_name(series)}: made by kpn_tf, no scan of this dose", False)
        else:
            scans.append(series)
    return scans


def _partner(low, normals, note):
    """The normal-dose series a low-dose series is looked at beside, or `None` with a note."""
    whose = distinct_id(low.patient_id)
    if not whose:
        note(f"{series_name(low)}: no PatientID to find the normal dose of the same patient by", True)
        return None
    left = [normal for normal, of_whom in normals if of_whom == whose]
    for what, same in (("patient", None), ("kernel", _same_kernel), ("slice thickness", _same_thickness)):
        left = [normal for normal in left if same is None or same(low, normal)]
        if not left:
            note(f"{series_name(low)}: no normal-dose series of the same {what}", True)
            return None
    return max(left, key=lambda normal: len(normal.slices))


# What a header leaves out rules nothing out.
def _same_kernel(low, normal):
    return not (low.kernel and normal.kernel) or low.kernel == normal.kernel


def _same_thickness(low, normal):
    both = low.thickness_mm and normal.thickness_mm
    return not both or abs(low.thickness_mm - normal.thickness_mm) <= _SAME_MM


def _unpaired(matched, note):
    labels = {}
    for low, normal, numbers in matched:
        patient = labels.setdefault(low.patient_id, f"...{low.label}")
        for i in numbers:
            j = int((i + 0.5) / len(low.slices) * len(normal.slices))
            try:
                low_ct, normal_ct = (
                    read_slice(file.path, file.frame) for file in (low.slices[i], normal.slices[j])
                )
            except DicomError as error:
                note(str(error), True)
                continue
            yield Unpaired(
                inside_hu(low_ct),
                inside_hu(normal_ct),
                patient,
                slice_name(low, i + 1),
                low.pixel_spacing_mm,
                normal.pixel_spacing_mm,
            )

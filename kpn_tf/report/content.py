"""What a report shows: slices before and after, beside their normal dose where there is one."""

import math
from dataclasses import dataclass

import numpy as np

from kpn_tf.dicom import DicomError, read_slice
from kpn_tf.dicom.reading.slice_header import read_header
from kpn_tf.evaluation.matching import matched_series, same_corner, series_name
from kpn_tf.evaluation.stream import chosen_slices, found_series
from kpn_tf.hounsfield import AIR_HU

# A report of this many slices of 512x512 stays below 25 MB.
USUAL_SLICES = 30


@dataclass(frozen=True)
class ReportSlice:
    """One slice of a report.

    Args:
        name: Where it lies, as the page says it.
        images_hu: Dict of `(H, W)` float32 in HU, NaN outside the field of view: `"before"`, `"after"` and, where
            there is a normal dose, `"reference"`.
        steps_hu: HU between neighbouring stored values of each image; those of `"after"` are not yet rounded to it.
        pixel_spacing_mm: `(rows, columns)` distance between pixels.
    """

    name: str
    images_hu: dict[str, np.ndarray]
    steps_hu: dict[str, float]
    pixel_spacing_mm: tuple[float, float]

    def filled_hu(self, kind):
        """An image with air outside the field of view, as the network sees it."""
        return np.nan_to_num(self.images_hu[kind], nan=AIR_HU)


@dataclass(frozen=True)
class Plan:
    """The slices a report will show.

    Args:
        chosen: List of `(series, number in it from 1, slice file, normal-dose slice file or None)`.
        total: How many slices there are to choose from.
        every: Every n-th was chosen.
    """

    chosen: list
    total: int
    every: int

    @property
    def subject(self):
        """What is shown, without saying whose it is."""
        names = list(dict.fromkeys(series_name(series) for series, *_ in self.chosen))
        count = len(self.chosen)
        slices = f"{count} slices" if count > 1 else "1 slice"
        if count < self.total:
            slices += f", one in {self.every} of {self.total}"
        # Where there are more, each slice names its own.
        return f"{names[0] if len(names) == 1 else f'{len(names)} series'}: {slices}"

    def patients(self):
        """Name, ID and study date of everybody shown, as the headers have them."""
        found = {}
        for series, _, file, _ in self.chosen:
            if found.get(series.key) is None:
                found[series.key] = _patient(file)
        return "; ".join(dict.fromkeys(filter(None, found.values())))


def plan(folder, reference, every, note):
    """Chooses the slices of a report, from headers alone.

    Args:
        folder: CT file, or folder that is searched recursively.
        reference: The same for the normal dose, or `None`.
        every: Takes every n-th slice; `None` for as many as make 30 at most, though one of each series.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        A `Plan`.

    Raises:
        DicomError: If a folder does not exist.
        ValueError: If there is nothing to show.
    """
    usable = []
    for series in found_series(folder, note):
        if series.denoised:
            note(
                f"{series_name(series)}: denoised by kpn_tf already; give the series it was made from", False
            )
        else:
            usable.append(series)
    if reference is None:
        groups = [(series, [(file, None) for file in series.slices]) for series in usable]
    else:
        groups = matched_series(usable, found_series(reference, note), note)
    total = sum(len(slices) for _, slices in groups)
    if total == 0:
        raise ValueError(f"expected CT slices to show in {folder}, received none that can be used")
    every = every or _usual_step([len(slices) for _, slices in groups])
    taken = [
        (series, series.slices.index(files[0]) + 1, *files)
        for series, slices in groups
        for _, files in chosen_slices(slices, every)
    ]
    return Plan(taken, total, every)


def _usual_step(lengths):
    """The smallest step that leaves the usual number of slices; the longest series' own where one of each is more."""
    steps = range(math.ceil(sum(lengths) / USUAL_SLICES), max(lengths))
    enough = (
        step for step in steps if sum(len(chosen_slices(range(n), step)) for n in lengths) <= USUAL_SLICES
    )
    return next(enough, max(lengths))


def report_slices(planned, denoiser, note):
    """Reads and denoises what was planned, one slice in memory at a time.

    Args:
        planned: `Plan`.
        denoiser: `kpn_tf.Denoiser`.
        note: Callback `(line, failure)` for skipped slices.

    Yields:
        `ReportSlice`.
    """
    several = len({series.key for series, *_ in planned.chosen}) > 1
    for series, number, file, normal_file in planned.chosen:
        try:
            ct = read_slice(file.path, file.frame)
            normal = None if normal_file is None else read_slice(normal_file.path, normal_file.frame)
            after_hu = denoiser(ct.slice_hu, ct.padding)
        except DicomError as error:
            note(str(error), True)
            continue
        except ValueError as error:
            note(f"{file.path}: {error}", True)
            continue
        if normal and not same_corner(ct.dataset, normal.dataset, series.pixel_spacing_mm):
            note(f"{file.path}: lies elsewhere in its plane, or is tilted, against the normal dose", True)
            continue
        name = f"slice {number}"
        if series.ruler != "instance_number":
            name += f" at {file.position_mm:.1f} mm"
        images = {"before": (ct, ct.slice_hu), "after": (ct, after_hu)}
        if normal:
            images["reference"] = (normal, normal.slice_hu)
        images_hu = {kind: _inside_hu(*image) for kind, image in images.items()}
        steps_hu = {kind: _step_hu(of) for kind, (of, _) in images.items()}
        name = f"{series_name(series)}, {name}" if several else name
        yield ReportSlice(name, images_hu, steps_hu, series.pixel_spacing_mm)


def _patient(file):
    """Name, ID and study date in a slice's header; `None` if it cannot be read, which is said when its turn comes."""
    keywords = ("PatientName", "PatientID", "StudyDate")
    try:
        dataset = read_header(file, keywords)
    except DicomError:
        return None
    values = (str(dataset.get(name) or "").strip() for name in keywords)
    return ", ".join(value or "not said" for value in values)


def _inside_hu(ct, slice_hu):
    return np.where(ct.padding, np.float32(np.nan), slice_hu)


def _step_hu(ct):
    """HU between neighbouring stored values."""
    return abs(float(ct.dataset.RescaleSlope))

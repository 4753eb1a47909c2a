"""Pairs of low and normal dose from CT series on disk, one slice in memory at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kpn_tf.dicom import DicomError, find_series, other_scale, read_slice
from kpn_tf.dose.low_dose import LowDoseError, inside_hu, low_dose
from kpn_tf.evaluation.comparison import Pair, Place
from kpn_tf.evaluation.matching import matched_series, same_corner, series_name
from kpn_tf.evaluation.stacks import Stacks
from kpn_tf.hounsfield import AIR_HU


@dataclass(frozen=True)
class PairStream:
    """Pairs to come.

    Args:
        data_name: What they are, for the table; it names no folder, because folders often name patients.
        slices: How many pairs at most: what cannot be used is left out with a note.
        pairs: `Pair`s, made when asked for.
    """

    data_name: str
    slices: int
    pairs: Iterator[Pair]


def simulated_pairs(folder, *, dose, seed, every, note, slices=1):
    """Normal-dose series, each slice beside the same slice at a lower dose: what `kpn simulate` would write.

    Args:
        folder: CT file, or folder that is searched recursively.
        dose: Fraction of the dose of the series, between 0 and 1.
        seed: Of the noise, 0 or more.
        every: Takes every n-th slice of a series.
        note: Callback `(line, failure)` for skipped inputs.
        slices: Slices of a stack, odd: each pair has the neighbours of the low-dose slice, so many less one.

    Returns:
        A `PairStream`.

    Raises:
        DicomError: If the folder does not exist.
    """
    series = {}
    for part in found_series(folder, note):
        if part.denoised or part.simulated:
            note(f"{series_name(part)}: made by kpn_tf, no normal-dose scan to simulate from", False)
        else:
            series.setdefault(part.key, []).append(part)
    count = sum(len(chosen_slices(part.slices, every)) for parts in series.values() for part in parts)
    name = f"{100 * dose:g} % of the dose, simulated (seed {seed})" + _every(every)
    return PairStream(name, count, _simulated(list(series.values()), dose, seed, every, note, slices))


def _simulated(series, dose, seed, every, note, slices):
    patients = _Patients()
    for parts in series:
        try:
            lower = low_dose(parts, dose=dose, seed=seed)
        except LowDoseError as error:
            note(f"{series_name(parts[0])}: {error}", False)
            continue
        for part in parts:

            def made(file, part=part, lower=lower):
                ct = read_slice(file.path, file.frame)
                low_hu = lower(ct, part.pixel_spacing_mm, file.sop_instance_uid)
                low_hu[ct.padding] = AIR_HU
                return low_hu, ct

            stacks = Stacks(part, slices, made)
            for number, _ in chosen_slices(part.slices, every):
                try:
                    low_hu, ct = stacks.at(number - 1)
                except DicomError as error:
                    note(str(error), True)
                    continue
                except LowDoseError as error:
                    note(f"{slice_name(part, number)}: {error}", False)
                    continue
                named = patients.label(ct, part), slice_name(part, number), part.pixel_spacing_mm
                yield Pair(low_hu, inside_hu(ct), *named, stacks.neighbours(number - 1))


def paired(low_folder, normal_folder, *, every, note, slices=1):
    """Low-dose series and the normal-dose series of the same patient, size, kernel and place.

    Args:
        low_folder: CT file, or folder that is searched recursively.
        normal_folder: The same for the normal dose.
        every: Takes every n-th pair of a series.
        note: Callback `(line, failure)` for skipped inputs.
        slices: As of `simulated_pairs`.

    Returns:
        A `PairStream`.

    Raises:
        DicomError: If a folder does not exist.
    """
    matched = matched_series(source_series(low_folder, note), found_series(normal_folder, note), note)
    return matched_pairs("pairs of low and normal dose", matched, every=every, note=note, slices=slices)


def matched_pairs(data_name, matched, *, every, note, label=None, slices=1):
    """The pairs of series that are matched already.

    Args:
        data_name: What they are.
        matched: What `matched_series` returned.
        every: Takes every n-th pair of a series.
        note: Callback `(line, failure)` for skipped inputs.
        label: Function from a low-dose slice and its series to the patient's name in tables; by default no name,
            but the end of the SeriesInstanceUID in which the patient is first seen.
        slices: As of `simulated_pairs`.

    Returns:
        A `PairStream`.
    """
    chosen = [(low, chosen_slices(pairs, every)) for low, pairs in matched]
    pairs = _matched_pairs(chosen, note, label or _Patients().label, slices)
    return PairStream(data_name + _every(every), sum(len(pairs) for _, pairs in chosen), pairs)


def _matched_pairs(chosen, note, label, slices):
    for low, pairs in chosen:
        stacks = Stacks(low, slices, _read)
        for _, (low_file, normal_file) in pairs:
            index = low.slices.index(low_file)
            name = slice_name(low, index + 1)
            try:
                low_hu, low_ct = stacks.at(index)
                normal_hu, normal_ct = _read(normal_file)
            except DicomError as error:
                note(str(error), True)
                continue
            if not same_corner(low_ct.dataset, normal_ct.dataset, low.pixel_spacing_mm):
                note(f"{name}: lies elsewhere in its plane, or is tilted, against the normal dose", True)
                continue
            outside = low_ct.padding | normal_ct.padding
            low_hu, normal_hu = (np.where(outside, np.float32(AIR_HU), hu) for hu in (low_hu, normal_hu))
            named = label(low_ct, low), name, low.pixel_spacing_mm
            yield Pair(low_hu, normal_hu, *named, stacks.neighbours(index), _place(low, index))


def single_slices(folder, *, every, note, slices=1):
    """The slices of CT series, each its own normal dose: for what is measured before and after only.

    Args:
        folder: CT file, or folder that is searched recursively.
        every: Takes every n-th slice of a series.
        note: Callback `(line, failure)` for skipped inputs.
        slices: As of `simulated_pairs`.

    Returns:
        A `PairStream`.

    Raises:
        DicomError: If the folder does not exist.
    """
    chosen = [(series, chosen_slices(series.slices, every)) for series in source_series(folder, note)]
    count = sum(len(numbered) for _, numbered in chosen)
    return PairStream("CT series" + _every(every), count, chosen_pairs(chosen, note, slices))


def chosen_pairs(chosen, note, slices):
    """Slices that were chosen, each its own normal dose.

    Args:
        chosen: List of `(series, [(number, slice file)])`, numbers counted from 1.
        note: Callback `(line, failure)` for skipped inputs.
        slices: As of `simulated_pairs`.

    Yields:
        `Pair`s.
    """
    patients = _Patients()
    for series, numbered in chosen:
        stacks = Stacks(series, slices, _read)
        for number, _ in numbered:
            try:
                slice_hu, ct = stacks.at(number - 1)
            except DicomError as error:
                note(str(error), True)
                continue
            named = patients.label(ct, series), slice_name(series, number), series.pixel_spacing_mm
            beside = stacks.neighbours(number - 1)
            yield Pair(slice_hu, slice_hu, *named, beside, _place(series, number - 1))


def _place(series, index):
    """`Place` of a slice; `None` where instance numbers alone give the order."""
    if series.ruler == "instance_number":
        return None
    return Place(series.key, index, series.slices[index].position_mm)


def _read(file):
    """A slice with air outside the field of view, and the `CTSlice`."""
    ct = read_slice(file.path, file.frame)
    return inside_hu(ct), ct


class _Patients:
    """Names patients by the series in which they are first seen; even hashed, a PatientID can be guessed."""

    def __init__(self):
        self._labels = {}

    def label(self, ct, series):
        return self._labels.setdefault(series.patient, f"...{series.label}")


def slice_name(series, number):
    """Names a slice of it, counted from 1."""
    return f"series ...{series.label} slice {number}"


def found_series(folder, note):
    """Finds the CT series of a folder.

    Args:
        folder: CT file, or folder that is searched recursively.
        note: Callback `(line, failure)` for skipped files and series.

    Returns:
        List of `Series`.

    Raises:
        DicomError: If the folder does not exist.
    """
    found, refusals = find_series(folder)
    for refusal in refusals:
        note(f"{refusal.path}: {refusal.reason}", refusal.failure)
    return [series for series in found if _holds_hu(series, note)]


def source_series(folder, note):
    """`found_series` that this package has not denoised: those that it has are named, and left out."""
    found = found_series(folder, note)
    for series in found:
        if series.denoised:
            note(
                f"{series_name(series)}: denoised by kpn_tf already; give the series it was made from", False
            )
    return [series for series in found if not series.denoised]


def _holds_hu(series, note):
    reason = other_scale([series])
    if reason is not None:
        note(f"{series_name(series)}: {reason}", False)
    return reason is None


def chosen_slices(slices, every):
    """Takes every n-th slice, from the middle of the first such group; one at least.

    Args:
        slices: Of a series, in order.
        every: Takes every n-th.

    Returns:
        List of `(number, slice)`, counted from 1.
    """
    start = (min(every, len(slices)) - 1) // 2
    return [(i + 1, slices[i]) for i in range(start, len(slices), every)]


def _every(every):
    return f", one slice in {every}" if every > 1 else ""

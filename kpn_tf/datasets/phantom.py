"""PHANTOM: one phantom at several tube voltages and currents, the highest current of each voltage as reference."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from kpn_tf.datasets.dose_curve import Setting
from kpn_tf.dicom import DicomError, Series
from kpn_tf.dicom.attributes import numbers
from kpn_tf.dicom.reading.slice_header import read_header
from kpn_tf.evaluation.matching import matched_series, series_name
from kpn_tf.evaluation.stream import found_series, matched_pairs

# Headers round to whole mA and generators regulate. 5 % of the current are 2.5 % of the noise, or 0.2 dB.
_SAME_CURRENT = 0.05
_ROUNDING_MA = 1.0
_SAME_VOLTAGE_KV = 0.5


@dataclass(frozen=True)
class PhantomScan:
    """A series of the phantom.

    Args:
        setting: Its `Setting`.
        series: The `Series`.
    """

    setting: Setting
    series: Series


def phantom_scans(folder, note):
    """Finds the scans of a phantom and what each was taken with, from KVP and XRayTubeCurrent of every slice.

    Exposure is not asked: one scanner writes 7 mAs where its current and time make 57.

    Args:
        folder: CT file, or folder that is searched recursively.
        note: Callback `(line, failure)` for skipped inputs: files that are no CT, series that
            this package made, and series of unknown or varying voltage or current.

    Returns:
        `PhantomScan`s by voltage, current and UID. Currents within 5 % of each other are one.

    Raises:
        DicomError: If the folder does not exist.
    """
    found = []
    for series in found_series(folder, note):
        if series.denoised or series.simulated:
            note(f"{series_name(series)}: made by kpn_tf, not scanned with what its header says", False)
            continue
        try:
            exposures = np.array([_exposure(file) for file in series.slices])  # (Z, 2): kV, mA
        except DicomError as error:
            note(str(error), True)
            continue
        refusal = _refusal(*exposures.T)
        if refusal:
            note(f"{series_name(series)}: {refusal}", True)
        else:
            voltage_kv, current_ma = np.median(exposures, axis=0)
            found.append((round(float(voltage_kv)), float(current_ma), series))
    scans = []
    for voltage_kv in {voltage_kv for voltage_kv, _, _ in found}:
        of_one = [(current_ma, series) for kv, current_ma, series in found if kv == voltage_kv]
        counts_as = _rounded({current_ma for current_ma, _ in of_one})
        scans += [PhantomScan(Setting(voltage_kv, counts_as[ma]), series) for ma, series in of_one]
    return sorted(scans, key=lambda scan: (scan.setting, scan.series.uid))


def phantom(folder, *, every=1, note):
    """The phantom's slices at each current beside those at the highest current of the same voltage.

    A scan finds its reference as a low-dose series its normal dose: same size, spacing, thickness and kernel,
    slices at the same positions. The reference has noise of its own.

    Args:
        folder: CT file, or folder that is searched recursively.
        every: Takes every n-th pair of a scan.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        A `PairStream`. Each pair's `patient` is its `Setting` as a string, so that a table has a row per point.

    Raises:
        DicomError: If the folder does not exist.
    """
    matched, settings, references = [], {}, {}
    for voltage_kv, group in groupby(
        phantom_scans(folder, note), key=lambda scan: scan.setting.tube_voltage_kv
    ):
        of_one = {scan.series: scan.setting for scan in group}
        highest = max(of_one.values())
        lower = [series for series, setting in of_one.items() if setting < highest]
        if not lower:
            only = f"{voltage_kv} kV: one tube current only ({highest.tube_current_ma} mA)"
            note(f"{only}, and none below it to judge by it", True)
            continue
        at_highest = [series for series, setting in of_one.items() if setting == highest]
        matched += matched_series(lower, at_highest, note)
        settings |= of_one
        references[voltage_kv] = highest
    return matched_pairs(
        _data_name([settings[low] for low, _ in matched], references),
        matched,
        every=every,
        note=note,
        label=lambda ct, low: str(settings[low]),
    )


def _exposure(file):
    """Tube voltage in kV and tube current in mA of a slice; NaN where its header does not say."""
    keywords = ("KVP", "XRayTubeCurrent")
    dataset = read_header(file, keywords)
    return [(numbers(dataset, keyword) or (np.nan,))[0] for keyword in keywords]


def _refusal(voltages_kv, currents_ma):
    """Why slices taken with these are no point on a curve; `None` if they are."""
    if not (np.all(voltages_kv > 0) and np.all(currents_ma > 0)):
        return "KVP or XRayTubeCurrent missing in a header, so that its dose is unknown"
    low, high = voltages_kv.min(), voltages_kv.max()
    if high - low > _SAME_VOLTAGE_KV:
        return f"tube voltage changes from {low:g} to {high:g} kV within the series; expected one voltage"
    low, high, middle = currents_ma.min(), currents_ma.max(), np.median(currents_ma)
    if max(high - middle, middle - low) > max(_SAME_CURRENT * middle, _ROUNDING_MA):
        return (
            f"tube current modulated from {low:g} to {high:g} mA, no point on a dose curve; "
            "expected a scan at one current"
        )
    return None


def _rounded(currents_ma):
    """The whole mA each current counts as: those within 5 % of the lowest of them are one."""
    groups = []
    for current_ma in sorted(currents_ma):
        if groups and current_ma <= groups[-1][0] * (1 + _SAME_CURRENT):
            groups[-1].append(current_ma)
        else:
            groups.append([current_ma])
    return {current_ma: round(float(np.median(group))) for group in groups for current_ma in group}


def _data_name(lower, references):
    """`PHANTOM: 80, 120, 140 kV at 30, 90, 150, 210 mA against 270 mA`, a part for each set of currents."""
    parts = {}
    for voltage_kv, highest in references.items():
        at_ma = sorted({one.tube_current_ma for one in lower if one.tube_voltage_kv == voltage_kv})
        if at_ma:
            what = f"{', '.join(map(str, at_ma))} mA against {highest.tube_current_ma} mA"
            parts.setdefault(what, []).append(str(voltage_kv))
    return "PHANTOM: " + "; ".join(f"{', '.join(of_these)} kV at {what}" for what, of_these in parts.items())

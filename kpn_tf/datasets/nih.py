"""The NIH protocol: quarter-dose and full-dose slices of the Mayo Clinic, five patients to train on, the rest to test.

Source: Xu et al., "Low-dose CT denoising using a structure-preserving kernel prediction network", ICIP 2021.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from kpn_tf.datasets.idc import FULL_DOSE, LOW_DOSE, UNFINISHED
from kpn_tf.dicom import Series
from kpn_tf.evaluation.matching import matched_series, series_name
from kpn_tf.evaluation.stream import found_series, matched_pairs

# Of the published PSNR and SSIM. The low dose has 27.93 dB in the paper's Table 1; real pairs have that in this
# window, and near 46 dB in that from -1024 to 3072 HU.
CONVENTION = "soft"

TRAINING_PATIENTS = 5

# The challenge's folders of its 3 mm slices (kernel B30), and the collection's names of its series.
_DOSE_OF_FOLDER = {"full_3mm": "normal", "quarter_3mm": "low"}
_DOSE_OF_DESCRIPTION = {FULL_DOSE.lower(): "normal", LOW_DOSE.lower(): "low"}
_DOSE_NAMES = {
    "normal": f"full-dose series (full_3mm, {FULL_DOSE})",
    "low": f"low-dose series (quarter_3mm, {LOW_DOSE})",
}

# What both call a patient: a public number, which may be shown. Any other name may be somebody's.
_PATIENT = re.compile(r"[CLN]\d{3}")


def nih(folder, *, part="test", every=1, note):
    """Pairs of one part of the patients in a folder.

    Two layouts are understood, mixed as well, if no patient's number comes from both:

    - that of the AAPM challenge of 2016: files below a folder `full_3mm` or `quarter_3mm` and a folder that is
      called like a patient, in any order and at any depth (`L067/full_3mm/`, `full_3mm/L067/full_3mm/`). Their
      headers all name the patient "Anonymous";
    - series called "Full Dose Images" and "Low Dose Images" whose PatientID is a patient's number, as in the
      collection `ldct_and_projection_data` of the Imaging Data Commons.

    Slices are paired as by `kpn evaluate`, each patient's apart. The first five patients by name train, the
    others test: both parts must be taken from the same folder.

    Args:
        folder: Searched to the bottom.
        part: "train" or "test".
        every: Takes every n-th pair of a series.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        A `PairStream`, whose patients go by their public numbers.

    Raises:
        DicomError: If the folder does not exist.
        ValueError: If the part is unknown or has no patients, the patients are not all of one region, or one
            number is in both layouts: they were given to different people.
    """
    if part not in ("train", "test"):
        raise ValueError(f"Expected the part 'train' or 'test'. Received: {part!r}")
    patients = scans_of_patients(folder, note)
    names = sorted(patients)
    regions = sorted({name[0] for name in names})
    if len(regions) > 1:
        raise ValueError(
            "Expected patients of one region, whose low doses are alike: C (chest), L (abdomen) or N (head). "
            f"Received: {' and '.join(regions)}; give each a folder of its own"
        )
    twice = [name for name in names if len(patients[name].layouts) > 1]
    if twice:
        raise ValueError(
            "Expected each patient's number from the challenge or from the collection: it is not one person in both. "
            f"Received: {', '.join(twice)} from both; give each source a folder of its own"
        )
    chosen = names[:TRAINING_PATIENTS] if part == "train" else names[TRAINING_PATIENTS:]
    if not chosen:
        least = TRAINING_PATIENTS + 1 if part == "test" else 1
        raise ValueError(
            f"Expected {least} or more patients, of whom {TRAINING_PATIENTS} train. Received: {len(names)}; "
            "docs/data.md tells how to get them"
        )
    matched, names_of = [], {}
    for name in chosen:
        for low, pairs in matched_scans(name, patients[name], note):
            matched.append((low, pairs))
            names_of[low] = name
    data_name = f"NIH protocol, {part} part: {', '.join(chosen)}"
    return matched_pairs(data_name, matched, every=every, note=note, label=lambda ct, low: names_of[low])


@dataclass
class Scans:
    """The series of one patient, by dose, and which layouts they came in: `"challenge"`, `"collection"`."""

    low: list[Series] = field(default_factory=list)
    normal: list[Series] = field(default_factory=list)
    layouts: set[str] = field(default_factory=set)


def scans_of_patients(folder, note):
    """Finds the series of both doses, in either layout.

    Args:
        folder: Searched to the bottom.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        `Scans` by the patient's public number.
    """
    folder, patients = Path(folder), defaultdict(Scans)
    for series in found_series(folder, note):
        if series.denoised or series.simulated:
            note(f"{series_name(series)}: made by kpn_tf, no scan", False)
            continue
        origins = {_origin(file.path, folder) for file in series.slices}
        if len(origins) > 1:
            note(f"{series_name(series)}: its slices lie in folders of several doses or patients", True)
            continue
        unfinished, dose, patient = origins.pop()
        if unfinished:
            note(f"{series_name(series)}: its download is not finished; call kpn data idc again", True)
            continue
        layout = "collection" if dose is None else "challenge"
        if dose is None:
            dose, patient = _DOSE_OF_DESCRIPTION.get(series.description.lower()), series.patient_id
        if dose is None:
            known = f"neither in full_3mm or quarter_3mm nor called {FULL_DOSE} or {LOW_DOSE}"
            note(f"{series_name(series)}: {known}", False)
        elif patient is None or not _PATIENT.fullmatch(patient):
            note(f"{series_name(series)}: no folder or PatientID like L067 says whose it is", True)
        else:
            getattr(patients[patient], dose).append(series)
            patients[patient].layouts.add(layout)
    return patients


def _origin(path, folder):
    """What the folders of a file say: whether it is part of an unfinished download, dose and patient or `None`."""
    names = [folder.resolve().name, *path.relative_to(folder).parts[:-1]] if folder.is_dir() else []
    # The innermost: `quarter_3mm` of an archive may have been unpacked in a folder of the other dose.
    doses = [_DOSE_OF_FOLDER[name.lower()] for name in names if name.lower() in _DOSE_OF_FOLDER]
    patients = [name for name in names if _PATIENT.fullmatch(name)]
    unfinished = any(name.endswith(UNFINISHED) for name in names)
    return unfinished, (doses or [None])[-1], (patients or [None])[-1]


def matched_scans(name, scans, note):
    """Pairs the doses of a patient; what is left over of either dose is told.

    Args:
        name: The patient's number, for the notes.
        scans: `Scans`.
        note: Callback `(line, failure)` for skipped inputs.

    Returns:
        What `kpn_tf.evaluation.matching.matched_series` does.
    """

    def note_of_patient(line, failure):
        note(f"{name}: {line}", failure)

    for dose, what in _DOSE_NAMES.items():
        if not getattr(scans, dose):
            note_of_patient(f"has no {what}", True)
            return []
    matched = matched_series(scans.low, scans.normal, note_of_patient)
    compared = {normal for _, pairs in matched for _, normal in pairs}
    for normal in scans.normal:
        alone = sum(file not in compared for file in normal.slices)
        if alone:
            line = (
                f"{series_name(normal)}: {alone} of {len(normal.slices)} slices have no low-dose slice there"
            )
            note_of_patient(line, True)
    return matched

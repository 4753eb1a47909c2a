"""A stand-in for the scans of the DOSE protocol: three patients, each scanned twice and never in the same place."""

from pathlib import Path

import numpy as np
import pydicom

from kpn_tf.dose.series_noise import noise_like
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.phantom import torso, write_series

_ROWS, _COLUMNS, _SLICES, _STEP_MM = 112, 128, 3, 3.0

# Pixels the normal dose lies away from the low dose, in rows and columns.
_SHIFT = (5, -9)

# A quarter of the dose has twice the noise. Pixel: the same torso on smaller pixels is a smaller patient.
_NOISE_HU = {"normal": 12.0, "low": 24.0}
_PIXELS_MM = (0.9, 0.84, 0.95)


def dose_twin(folder):
    """Writes `low/1` to `low/3` and `normal/1` to `normal/3`, three small slices each; always the same ones.

    The normal dose is shifted by some pixels and by half the distance of the slices.

    Args:
        folder: Where the scans go; made if missing.

    Raises:
        FileExistsError: If a file is there already; nothing is overwritten.
    """
    margins = [2 * abs(n) for n in _SHIFT]
    # Twice the slices at half the distance: every other one is a scan.
    body = torso(_ROWS + margins[0], _COLUMNS + margins[1], 2 * _SLICES, _PIXELS_MM[0], _STEP_MM / 2)
    for patient, pixel_mm in enumerate(_PIXELS_MM, 1):
        for number, (dose, shift) in enumerate({"low": (0, 0), "normal": _SHIFT}.items()):
            rows, columns = (
                slice(abs(most) + n, abs(most) + n + size)
                for most, n, size in zip(_SHIFT, shift, (_ROWS, _COLUMNS), strict=True)
            )
            clean_hu = body.volume_hu[number::2, rows, columns]  # (Z, H, W)
            scan_hu = [_noisy(clean_hu[i], pixel_mm, dose, [patient, number, i]) for i in range(_SLICES)]
            _write_scan(np.stack(scan_hu), Path(folder) / dose / str(patient), patient, pixel_mm, dose)


def _noisy(slice_hu, pixel_mm, dose, seed):
    rng = np.random.default_rng([2021, *seed])
    return slice_hu + noise_like(slice_hu, pixel_mm, _NOISE_HU[dose], SPECTRA["soft"], rng)


def _write_scan(scan_hu, folder, patient, pixel_mm, dose):
    for path in write_series(
        scan_hu,
        folder,
        pixel_spacing_mm=(pixel_mm, pixel_mm),
        slice_spacing_mm=_STEP_MM,
        description=f"{dose} dose",
        # Series of one name share their study and their frame of reference; two scans share neither.
        patient_name=f"TWIN^{patient}^{dose}",
    ):
        dataset = pydicom.dcmread(path)
        dataset.PatientName = f"TWIN^{patient}"
        dataset.PatientID = f"TWIN-{patient}"
        dataset.save_as(path)

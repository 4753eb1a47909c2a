"""The NIH data set's synthetic twin: seven patients cut from the digital torso, in the layout of the challenge."""

from pathlib import Path

import numpy as np

from kpn_tf.dose.series_noise import SeriesNoise, noise_like, simulate_low_dose
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.files import move
from kpn_tf.phantom import torso, write_series

# No numbers of real patients.
PATIENTS = ("L901", "L902", "L903", "L904", "L905", "L906", "L907")

# Noise in flat tissue, HU: a routine abdomen's.
_NOISE = SeriesNoise(12.0, SPECTRA["soft"])
_DOSE = 0.25

_ROWS, _COLUMNS, _SLICES = 119, 157, 3
_PIXEL_MM, _SLICE_MM = 2.4, 3.0

# Which slab of the torso is whose, counted from the feet: both parts have slabs from all over it.
_SLABS = (0, 5, 2, 4, 6, 1, 3)


def nih_twin(folder):
    """Writes the twin: two series per patient, the same bytes each time.

    Args:
        folder: Where the patients' folders go: `L901/full_3mm/0001.IMA`, `L901/quarter_3mm/0001.IMA` and so on.

    Raises:
        FileExistsError: If one of the patients is there already; nothing is overwritten.
    """
    folder = Path(folder)
    for patient in PATIENTS:
        if (folder / patient).exists():
            raise FileExistsError(f"Expected no {patient} in {folder}. Received: one; name an empty folder")
    body = torso(_ROWS, _COLUMNS, _SLICES * len(PATIENTS), _PIXEL_MM, _SLICE_MM)
    for number, (patient, slab) in enumerate(zip(PATIENTS, _SLABS, strict=True)):
        truth_hu = body.volume_hu[slab * _SLICES : (slab + 1) * _SLICES]
        rng = np.random.default_rng([20210919, number])
        normal_hu = np.stack(
            [hu + noise_like(hu, _PIXEL_MM, _NOISE.std_hu, _NOISE.spectrum, rng) for hu in truth_hu]
        )
        low_hu = np.stack(
            [simulate_low_dose(hu, _PIXEL_MM, dose=_DOSE, noise=_NOISE, rng=rng) for hu in normal_hu]
        )
        for name, volume_hu in (("full_3mm", normal_hu), ("quarter_3mm", low_hu)):
            _write(volume_hu, folder / patient / name, patient, name)


def _write(volume_hu, folder, patient, description):
    paths = write_series(
        volume_hu,
        folder,
        pixel_spacing_mm=(_PIXEL_MM, _PIXEL_MM),
        slice_spacing_mm=_SLICE_MM,
        description=description,
        patient_name=patient,
    )
    for path in paths:
        move(path, path.with_suffix(".IMA"))

"""A stand-in for the scans of the PHANTOM protocol: the digital torso at 3 voltages x 5 currents, as DICOM.

What changes with the voltage is what the photoelectric effect makes of it: bone and contrast agent are brighter
at 80 kV than at 140 kV, soft tissue stays. What changes with the current is the noise alone.
"""

from pathlib import Path

import numpy as np
import pydicom

from kpn_tf.dose.series_noise import noise_like
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.phantom import LESIONS, TISSUE_HU, Tissue, torso, write_series

TUBE_VOLTAGES_KV = (80, 120, 140)
TUBE_CURRENTS_MA = (30, 90, 150, 210, 270)

# 115 x 101 mm of the torso, a little below its middle: heart, liver, aorta, vertebra, some lung; pixels of the
# usual size, because texture is what denoisers look at.
_ROWS, _COLUMNS, _SLICES = 112, 128, 3
_ABOVE = 20
_PIXEL_MM, _STEP_MM = 0.9, 3.0
_FINER = 3

_ROTATION_S = 0.5

# A routine abdomen at 120 kV and 135 mAs; 30 HU at the lowest current.
_NOISE_HU, _AT_KV, _AT_MA = 10.0, 120, 270
# CTDIvol at 200 mAs is 13.59 mGy at 120 kV and 4.33 mGy at 80 kV: a power of 2.82. The noise measured there,
# 4.45 and 8.20 HU, follows one of 3.0. Source: Tang et al., J Biomed Biotechnol 2012, 130169.
_DOSE_POWER = 2.8

# Mass attenuation coefficients in cm²/g. Source: Hubbell and Seltzer, NIST Standard Reference Database 126
# (bone: cortical, ICRU-44).
_KEV = (50.0, 60.0, 80.0)
_WATER = (0.2269, 0.2059, 0.1837)
_IODINE = (12.32, 7.579, 3.510)
_BONE = (0.4242, 0.3148, 0.2229)
_BONE_DENSITY = 1.92  # g/cm³

# Effective energies. At 120 kV: where water attenuates as kpn_tf.hounsfield says. The other two: so that calcium
# has 1.5 times the HU at 80 kV that it has at 140 kV (measured: 1.47, Eur Radiol Exp 3 (2019),
# doi 10.1186/s41747-019-0125-2, table 1) and iodine 1.9 times.
_EFFECTIVE_KEV = {80: 57.0, 120: 70.0, 140: 76.0}

# Usual values without contrast agent: what TISSUE_HU has above them is iodine.
_UNENHANCED_HU = {
    Tissue.HEART: 45.0,
    Tissue.BLOOD: 42.0,
    Tissue.AORTA: 42.0,
    Tissue.VEIN: 42.0,
    Tissue.LIVER: 60.0,
    Tissue.LIVER_VESSEL: 42.0,
    Tissue.SPLEEN: 50.0,
}


def phantom_twin(folder):
    """Writes 15 scans, `080kV_030mA` and so on, three small slices each; always the same ones.

    Args:
        folder: Where the scans go, a folder each; made if missing.

    Raises:
        FileExistsError: If a file is there already; nothing is overwritten.
    """
    # Labels three times finer than the pixels: their mean HU is partial volume, at any voltage.
    body = torso(
        (_ABOVE + _ROWS) * _FINER, _COLUMNS * _FINER, _SLICES, _PIXEL_MM / _FINER, slice_spacing_mm=_STEP_MM
    )
    labels = body.labels[:, _ABOVE * _FINER :]  # (Z, 3H, 3W)
    for voltage_kv in TUBE_VOLTAGES_KV:
        fine_hu = _hu_of_label(voltage_kv)[labels]  # (Z, 3H, 3W)
        clean_hu = fine_hu.reshape(_SLICES, _ROWS, _FINER, _COLUMNS, _FINER).mean((2, 4))  # (Z, H, W)
        for current_ma in TUBE_CURRENTS_MA:
            _write_scan(clean_hu, Path(folder), voltage_kv, current_ma)


def noise_std_hu(voltage_kv, current_ma):
    """Noise of a scan in flat soft tissue: its square goes down as the dose goes up.

    Example:

    >>> noise_std_hu(120, 30), round(noise_std_hu(80, 270), 1)
    (30.0, 17.6)
    """
    dose = current_ma / _AT_MA * (voltage_kv / _AT_KV) ** _DOSE_POWER
    return _NOISE_HU / dose**0.5


def brightness(voltage_kv):
    """HU of iodine and of bone at a voltage, as multiples of those at 120 kV.

    Args:
        voltage_kv: 80, 120 or 140.

    Returns:
        `(iodine, bone)`.
    """

    def contrasts(kev):
        water, iodine, bone = (
            np.exp(np.interp(np.log(kev), np.log(_KEV), np.log(values)))
            for values in (_WATER, _IODINE, _BONE)
        )
        return np.array([iodine / water, _BONE_DENSITY * bone / water - 1])

    return tuple((contrasts(_EFFECTIVE_KEV[voltage_kv]) / contrasts(_EFFECTIVE_KEV[120])).tolist())


def _hu_of_label(voltage_kv):
    iodine, bone = brightness(voltage_kv)
    hu = np.zeros(256, np.float32)
    for tissue, at_120_kv in TISSUE_HU.items():
        hu[tissue] = at_120_kv
    for tissue, unenhanced_hu in _UNENHANCED_HU.items():
        hu[tissue] = unenhanced_hu + iodine * (TISSUE_HU[tissue] - unenhanced_hu)
    for tissue in (Tissue.CORTICAL_BONE, Tissue.MARROW):
        hu[tissue] = bone * TISSUE_HU[tissue]
    for lesion in LESIONS:
        hu[lesion.label] = hu[Tissue.LIVER] + lesion.contrast_hu
    return hu


def _write_scan(clean_hu, folder, voltage_kv, current_ma):
    noise_hu = noise_std_hu(voltage_kv, current_ma)
    scan_hu = [
        slice_hu
        + noise_like(
            slice_hu,
            _PIXEL_MM,
            noise_hu,
            SPECTRA["soft"],
            np.random.default_rng([2021, voltage_kv, current_ma, i]),
        )
        for i, slice_hu in enumerate(clean_hu)
    ]
    for path in write_series(
        np.stack(scan_hu),
        folder / f"{voltage_kv:03d}kV_{current_ma:03d}mA",
        pixel_spacing_mm=(_PIXEL_MM, _PIXEL_MM),
        slice_spacing_mm=_STEP_MM,
        description=f"{voltage_kv} kV, {current_ma} mA",
    ):
        dataset = pydicom.dcmread(path)
        dataset.KVP = str(voltage_kv)
        dataset.XRayTubeCurrent = current_ma
        dataset.ExposureTime = round(1000 * _ROTATION_S)
        dataset.Exposure = round(current_ma * _ROTATION_S)
        dataset.save_as(path)

"""A CT series on disk at a lower dose: noise measured in the series itself, added slice by slice."""

import hashlib
from dataclasses import dataclass

import numpy as np

from kpn_tf.dicom import DicomError, read_slice
from kpn_tf.dose.series_noise import (
    NoFlatTissueError,
    NoNoiseError,
    SeriesNoise,
    series_noise,
    simulate_low_dose,
)
from kpn_tf.hounsfield import AIR_HU

# Slices in which the noise of a series is measured: the memory they take does not grow with the series.
MEASURED_SLICES = 16

# Sides of a pixel that differ by less count as equal: headers are rounded.
_SQUARE = 0.01


class LowDoseError(ValueError):
    """A series whose dose cannot be lowered; one sentence that says why."""


@dataclass(frozen=True)
class LowDose:
    """Lowers the dose of a series, in any order of its slices: the same slice always gets the same noise.

    Args:
        dose: Fraction of the series' own dose, between 0 and 1.
        seed: Of the noise, 0 or more.
        noise: `SeriesNoise` that the series has of its own.
    """

    dose: float
    seed: int
    noise: SeriesNoise

    def __call__(self, ct, pixel_spacing_mm, sop_instance_uid):
        """Makes the low-dose slice.

        Args:
            ct: A `CTSlice`; left as it is.
            pixel_spacing_mm: `(rows, columns)` distance between pixels; they must be square.
            sop_instance_uid: Names the slice, and so its noise.

        Returns:
            `(H, W)` float32 in HU; outside the field of view what the slice holds there.

        Raises:
            LowDoseError: If the pixels are not square.
        """
        low_hu = simulate_low_dose(
            inside_hu(ct),
            square_pixel_mm(pixel_spacing_mm),
            dose=self.dose,
            noise=self.noise,
            rng=_generator(self.seed, sop_instance_uid),
        )
        low_hu[ct.padding] = ct.slice_hu[ct.padding]
        return low_hu


def low_dose(parts, *, dose, seed):
    """Measures the noise of a series and returns what lowers its dose.

    Args:
        parts: `Series` of one key: its parts of different geometry, which share strength and texture.
        dose: Fraction of the series' own dose, between 0 and 1.
        seed: Of the noise, 0 or more.

    Returns:
        A `LowDose`.

    Raises:
        LowDoseError: If the measured slices show no flat soft tissue or no noise in it, or none can be read.
    """
    slices = []
    for file in measured_slices(parts):
        try:
            slices.append(inside_hu(read_slice(file.path, file.frame)))
        except DicomError:
            continue  # It is named when its turn comes.
    if not slices:
        raise LowDoseError("none of its slices can be read")
    pixel_mm = square_pixel_mm(_longest(parts).pixel_spacing_mm)
    try:
        noise = series_noise(np.stack(slices), pixel_mm)
    except NoFlatTissueError:
        raise LowDoseError("no flat soft tissue (15 mm boxes) to measure its noise in") from None
    except NoNoiseError:
        raise LowDoseError(
            "no noise in its flat soft tissue, and so none that a lower dose would raise"
        ) from None
    return LowDose(dose, seed, noise)


def measured_slices(parts):
    """The slices in which the noise of a series is measured: evenly spaced, 16 at most."""
    slices = _longest(parts).slices
    count = min(MEASURED_SLICES, len(slices))
    return tuple(slices[i] for i in np.linspace(0, len(slices) - 1, count).round().astype(int))


def texture_sha256(parts):
    """Names the slices in which the noise of a series is measured: others can have other noise."""
    names = "|".join(file.sop_instance_uid for file in measured_slices(parts))
    return hashlib.sha256(names.encode()).hexdigest()


def inside_hu(ct):
    """The slice with air outside the field of view: what fills it there is nothing that rays pass through."""
    return np.where(ct.padding, np.float32(AIR_HU), ct.slice_hu)


def square_pixel_mm(pixel_spacing_mm):
    """Side of a square pixel in mm.

    Raises:
        LowDoseError: If its sides differ.
    """
    rows_mm, columns_mm = pixel_spacing_mm
    if abs(rows_mm - columns_mm) > _SQUARE * rows_mm:
        raise LowDoseError(f"pixels are {rows_mm:g} x {columns_mm:g} mm, not square: not as reconstructed")
    return (rows_mm + columns_mm) / 2


def _longest(parts):
    return max(parts, key=lambda part: len(part.slices))


def _generator(seed, sop_instance_uid):
    digest = hashlib.sha256(f"{seed}|{sop_instance_uid}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))

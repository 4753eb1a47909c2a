"""The noise of a routine-dose series, as a goal for another."""

from dataclasses import dataclass

import numpy as np

from kpn_tf.dicom import DicomError, read_slice
from kpn_tf.metrics.noise_of_blend import NoiseOfBlend

# Of each series, evenly spaced.
MEASURED_SLICES = 24


@dataclass(frozen=True)
class RoutineNoise:
    """What a series shows of noise in flat soft tissue.

    Args:
        label: Names the series without saying whose it is.
        noise_hu: Mean SD over its slices in HU, to a tenth.
        mean_frequency_per_mm: Of its noise power spectrum, its grain.
    """

    label: str
    noise_hu: float
    mean_frequency_per_mm: float

    @property
    def text(self):
        """For a line of a log."""
        return (
            f"series ...{self.label}: noise {self.noise_hu:.1f} HU, "
            f"NPS mean frequency {self.mean_frequency_per_mm:.3f} per mm"
        )


def routine_noise(found):
    """Measures the noise of a series that was found.

    Args:
        found: List of `kpn_tf.dicom.Series`: the parts of one series.

    Returns:
        `RoutineNoise`.

    Raises:
        ValueError: If there is not one series, it was made by this package, or shows no flat soft tissue.
    """
    keys = {series.key for series in found}
    if len(keys) != 1:
        raise ValueError(
            f"Expected one series of routine dose. Received: {len(keys)}; give the folder of one"
        )
    if found[0].denoised or found[0].simulated:
        raise ValueError("Expected a series of routine dose as reconstructed. Received: one made by kpn_tf")
    noise = NoiseOfBlend()
    every = [(series, file) for series in found for file in series.slices]
    for i in np.linspace(0, len(every) - 1, min(MEASURED_SLICES, len(every))).round().astype(int):
        series, file = every[i]
        try:
            ct = read_slice(file.path, file.frame)
        except DicomError:
            continue
        noise.add(ct.slice_hu, ct.slice_hu, series.pixel_spacing_mm, ct.padding)
    if not noise.measured:
        raise ValueError(
            f"Expected flat soft tissue (15 mm boxes) in series ...{found[0].label} to measure noise in. Received: none"
        )
    return RoutineNoise(found[0].label, round(noise.noise_hu(0.0), 1), noise.mean_frequency_per_mm(0.0))

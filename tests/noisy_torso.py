"""A small scan for tests: the digital torso with white noise of known strength, as a DICOM series."""

import functools

import numpy as np
import pydicom

from kpn_tf.phantom import torso, write_series

NOISE_HU = 12.0
PIXEL_MM = 2.8


@functools.cache
def noisy_volume(slices=3, noise_hu=NOISE_HU):
    """`(slices, 96, 128)` in HU: the torso and its noise."""
    body = torso(96, 128, slices, pixel_spacing_mm=PIXEL_MM)
    return body.volume_hu + np.random.default_rng(7).normal(0, noise_hu, body.volume_hu.shape)


def write_torso(folder, volume_hu=None, *, patient_id="ID-0815", changes=None):
    """Writes it as a series; `changes` are attributes of every slice.

    Returns:
        The paths, from feet to head.
    """
    volume_hu = noisy_volume() if volume_hu is None else volume_hu
    paths = write_series(
        volume_hu,
        folder,
        pixel_spacing_mm=(PIXEL_MM, PIXEL_MM),
        slice_spacing_mm=3.0,
        description="Body of Secret Person",
        patient_name="Secret^Person",
    )
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in {
            "PatientID": patient_id,
            "ConvolutionKernel": "B30f",
            **(changes or {}),
        }.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return paths

"""The main job: every CT series under a path becomes a denoised series of its own, or one for each strength."""

import hashlib
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kpn_tf import __version__
from kpn_tf.batch.derivation import derive
from kpn_tf.batch.process import SeriesError
from kpn_tf.denoiser.strength import blended
from kpn_tf.dicom import DerivedBy, DicomError, read_slice
from kpn_tf.metrics.noise_of_blend import NoiseOfBlend
from kpn_tf.neighbours import Neighbour

# Slices of a series in which noise is measured before and after, to find the strength for a wanted noise.
MEASURED_SLICES = 24


class FoundStrength(NamedTuple):
    """What was found for a wanted noise; the fields of `DerivedBy`, which describes them."""

    strength: float
    grain_per_mm: float
    measured_sha256: str


class Denoising:
    """The `Process` that removes noise.

    Args:
        denoiser: A `Denoiser`.
        strengths: Shares of the correction, a derived series for each; `None` for the denoiser's own.
        noise_hu: Instead of strengths: noise in HU that is wanted in flat soft tissue. The strength is found for each
            series and is the same in all its slices.
        found: With a wanted noise, the `FoundStrength` of slices that came earlier of the same series: what comes later
            gets the same strength and joins their derived series. `None`: it is found.

    Raises:
        ValueError: If both are given, or strengths are not different numbers from 0 to 1, or the denoiser is not of
            strength 1 where either is given.
    """

    def __init__(self, denoiser, strengths=None, noise_hu=None, found=None):
        strengths = None if strengths is None else tuple(float(strength) for strength in strengths)
        if strengths is not None and noise_hu is not None:
            raise ValueError(f"Expected strengths or a noise. Received: {strengths} and {noise_hu} HU")
        if strengths is not None and not (
            strengths and len(set(strengths)) == len(strengths) and all(0 <= one <= 1 for one in strengths)
        ):
            raise ValueError(f"Expected different strengths from 0 to 1. Received: {strengths}")
        self._blends = strengths is not None or noise_hu is not None
        if self._blends and denoiser.strength != 1.0:
            raise ValueError(
                f"Expected a denoiser of strength 1, which is blended. Received: {denoiser.strength}"
            )
        if noise_hu is not None and not 0 < noise_hu < np.inf:
            raise ValueError(f"Expected a noise above 0 HU. Received: {noise_hu}")
        self._denoiser = denoiser
        self._strengths = strengths or (denoiser.strength,)
        self._noise_hu = None if noise_hu is None else float(noise_hu)
        self._found = found

    def refusal(self, parts):
        return "made by kpn_tf, never denoised twice" if parts[0].denoised else None

    def outside(self, parts):
        return tuple(dict.fromkeys(reason for part in parts for reason in part.outside))

    def derived_by(self, parts):
        identity, artefact = self._denoiser.identity, getattr(self._denoiser, "artefact", None)
        alone = artefact and artefact.alone
        by = DerivedBy(
            identity.model,
            __version__,
            identity.weights_sha256,
            1.0,
            self._denoiser.device,
            identity.file_sha256,
            self._noise_hu,
            alone=alone and alone.model,
        )
        if self._noise_hu is None:
            return tuple(replace(by, strength=strength) for strength in self._strengths)
        if self._found is None:
            return (replace(by, measured_sha256=_names_sha256(parts)),)
        return (replace(by, **self._found._asdict()),)

    @property
    def slices_around(self):
        return getattr(self._denoiser, "slices", 1) // 2

    def for_series(self, parts, makers):
        denoise = self._among_neighbours(parts) if self.slices_around else self._alone
        if self._noise_hu is not None and self._found is None:
            strength, grain_per_mm = self._strength_for(parts, denoise)
            makers = [replace(by, strength=strength, grain_per_mm=grain_per_mm) for by in makers]

        def denoised(ct, series, slice_file, *around):
            denoised_hu = denoise(ct, series, slice_file, *around)
            if not self._blends:
                return [denoised_hu]
            return [blended(ct.slice_hu, denoised_hu, by.strength) for by in makers]

        return makers, denoised

    def _alone(self, ct, series, slice_file):
        return self._denoiser(ct.slice_hu, ct.padding)

    def _among_neighbours(self, parts):
        indices = {(file.path, file.frame): index for part in parts for index, file in enumerate(part.slices)}

        def denoise(ct, series, slice_file, around):
            index = indices[slice_file.path, slice_file.frame]
            beside = [
                Neighbour(around[place[0] - index].slice_hu, place[1], around[place[0] - index].padding)
                if place and place[0] - index in around
                else None
                for place in series.neighbours(index, self._denoiser.slices)
            ]
            return self._denoiser(ct.slice_hu, ct.padding, beside)

        return denoise

    def _strength_for(self, parts, denoise):
        """The strength that leaves the wanted noise in a series, and the grain of that noise in 1/mm."""
        noise = NoiseOfBlend()
        for part, index in _measured(parts):
            file = part.slices[index]
            ct = _read(file)
            if ct is None:
                continue
            reach = range(
                max(0, index - self.slices_around), min(len(part.slices), index + self.slices_around + 1)
            )
            around = {
                i - index: near for i in reach if i != index and (near := _read(part.slices[i])) is not None
            }
            denoised_hu = denoise(ct, part, file, *([around] if self.slices_around else []))
            noise.add(ct.slice_hu, denoised_hu, part.pixel_spacing_mm, ct.padding)
        if not noise.measured:
            raise SeriesError(
                "shows no flat soft tissue in which its noise could be measured; give a strength instead"
            )
        strength = noise.strength_for(self._noise_hu)
        return strength, noise.mean_frequency_per_mm(strength)


def _measured(parts):
    """The slices in which noise is measured, evenly spaced: pairs of a part and an index in it."""
    every = [(part, index) for part in parts for index in range(len(part.slices))]
    count = min(MEASURED_SLICES, len(every))
    return [every[i] for i in np.linspace(0, len(every) - 1, count).round().astype(int)]


def _names_sha256(parts):
    names = "|".join(part.slices[index].sop_instance_uid for part, index in _measured(parts))
    return hashlib.sha256(names.encode()).hexdigest()


def _read(file):
    """A slice, or `None` where it cannot be read, which is said when its turn comes."""
    try:
        return read_slice(file.path, file.frame)
    except DicomError:
        return None


def denoise(
    input_path, output, denoiser, *, strengths=None, noise_hu=None, found=None, names="uid", progress=None
):
    """Denoises every CT series under a path.

    Args:
        input_path: CT file, or folder that is searched recursively.
        output: Folder for the derived series; made if needed. It may lie inside the input.
        denoiser: A `Denoiser`.
        strengths: Shares of the correction, a derived series for each: slices are decoded and denoised once. `None`
            for the denoiser's own strength; else that is 1.
        noise_hu: Instead of strengths: noise in HU that is wanted in flat soft tissue; see `Denoising`.
        found: With a wanted noise, the `FoundStrength` of earlier slices of the one series under the path.
        names: What the folders of derived series are named after; see `kpn_tf.batch.derivation.derive`.
        progress: A `Progress`, or `None`.

    Returns:
        A `JobReport`; what can be relied on is told at `kpn_tf.batch.derivation.derive`.

    Raises:
        FileNotFoundError: If the input does not exist.
        NotADirectoryError: If the output exists and is no folder.
        ValueError: If strengths or noise are not what `Denoising` takes.
    """
    process = Denoising(denoiser, strengths, noise_hu, found)
    return derive(input_path, output, process, names=names, progress=progress)

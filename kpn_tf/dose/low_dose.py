"""A CT series on disk at a lower dose: noise measured in the series itself, added slice by slice.

Neighbouring slices share a part of the noise of their rays, as much as the series' own noise is correlated along z. The
white noise of each slice's rays follows from its name, so slices can be made one by one, in any order.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from kpn_tf.dicom import DicomError, read_slice
from kpn_tf.dose.along_z import correlated_along_z
from kpn_tf.dose.series_noise import (
    NoFlatTissueError,
    NoiseMeter,
    NoNoiseError,
    SeriesNoise,
    simulate_low_dose,
)
from kpn_tf.hounsfield import AIR_HU

# Slices of each group in which its noise is measured, an even number: the time does not grow with the series.
MEASURED_SLICES = 64

# Slices without which an acquisition is no group of its own: a sequential scan is one acquisition a slice.
_GROUP = 5

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
        noises: `SeriesNoise` that each slice has of its own, by `sop_instance_uid`.
        sources: Whose white noise the noise of each slice is made of, by `sop_instance_uid`: names of the neighbour
            before it, of itself, and of the neighbour after it.
    """

    dose: float
    seed: int
    noises: dict[str, SeriesNoise]
    sources: dict[str, tuple[str, str, str]]

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
        noise = self.noises[sop_instance_uid]

        def rays(shape):
            rngs = [_generator(self.seed, "rays", name) for name in self.sources[sop_instance_uid]]
            fields = [rng.standard_normal(shape, dtype=np.float32) for rng in rngs]
            return correlated_along_z(np.stack(fields), noise.correlation)[0]

        low_hu = simulate_low_dose(
            inside_hu(ct),
            square_pixel_mm(pixel_spacing_mm),
            dose=self.dose,
            noise=noise,
            rng=_generator(self.seed, sop_instance_uid),
            rays=rays,
        )
        low_hu[ct.padding] = ct.slice_hu[ct.padding]
        return low_hu


def low_dose(parts, *, dose, seed):
    """Measures the noise along a series and returns what lowers its dose.

    Slices that are alike (one geometry, one thickness, one acquisition) are measured together, and each has the noise
    of its neighbours among them: noise changes inside a series where thickness or tube current do.

    Args:
        parts: `Series` of one key: its parts of different geometry.
        dose: Fraction of the series' own dose, between 0 and 1.
        seed: Of the noise, 0 or more.

    Returns:
        A `LowDose`.

    Raises:
        LowDoseError: If the measured slices show no flat soft tissue or no noise in it, or none can be read.
    """
    noises, sources, unmeasured, reasons = {}, {}, [], []
    for group in _groups(parts):
        beside = [group.neighbours(index, 3) for index in range(len(group.slices))]
        sources |= _sources(group.slices, beside)
        try:
            noises |= _group_noises(group, beside)
        except LowDoseError as error:
            unmeasured += group.slices
            reasons.append(str(error))
    if not noises:
        # Of the largest group, which comes first.
        raise LowDoseError(reasons[0])
    # A few slices at an end, without soft tissue: nobody measures their noise, and most of the series has this one.
    usual = sorted(noises.values(), key=lambda noise: noise.std_hu)[len(noises) // 2]
    return LowDose(dose, seed, noises | {file.sop_instance_uid: usual for file in unmeasured}, sources)


def _group_noises(group, beside):
    """`SeriesNoise` of each slice of a group, by `sop_instance_uid`."""
    files, meter, read = group.slices, NoiseMeter(square_pixel_mm(group.pixel_spacing_mm)), []
    for index in _spread(files):
        try:
            slice_hu = inside_hu(read_slice(files[index].path, files[index].frame))
        except DicomError:
            continue  # It is named when its turn comes.
        before = beside[index][0]
        meter.add(slice_hu, beside_last=before is not None and before[0] in read[-1:])
        read.append(index)
    if not read:
        raise LowDoseError("none of its slices can be read")
    try:
        usual = meter.series()
    except NoFlatTissueError:
        raise LowDoseError("no flat soft tissue (15 mm boxes) to measure its noise in") from None
    except NoNoiseError:
        raise LowDoseError(
            "no noise in its flat soft tissue, and so none that a lower dose would raise"
        ) from None
    strengths_hu = np.interp(range(len(files)), read, meter.strengths_hu())
    return {
        file.sop_instance_uid: replace(usual, std_hu=float(std_hu))
        for file, std_hu in zip(files, strengths_hu, strict=True)
    }


def _sources(files, beside):
    """`LowDose.sources` of a group. Where a slice has no neighbour, noise that no other slice has stands for it."""
    sources = {}
    for file, neighbours in zip(files, beside, strict=True):
        name = file.sop_instance_uid
        before, after = (
            f"{side} {name}" if place is None else files[place[0]].sop_instance_uid
            for side, place in zip(("before", "after"), neighbours, strict=True)
        )
        sources[name] = before, name, after
    return sources


def _groups(parts):
    """A `Series` of each group of slices that are alike, the largest first."""
    groups = [replace(part, slices=tuple(files)) for part in parts for files in like_slices(part)]
    return sorted(groups, key=lambda group: -len(group.slices))


def like_slices(series):
    """The slices of a series by thickness and acquisition: what may differ in noise, or lie in one place twice.

    Args:
        series: A `Series`.

    Returns:
        List of lists of its `SliceFile`, each sorted by position. Acquisitions are told apart only where each has a few
        slices: a sequential scan is one acquisition a slice.
    """
    groups = defaultdict(list)
    for file in series.slices:
        groups[file.thickness_mm, file.acquisition_number].append(file)
    if min(map(len, groups.values())) < _GROUP:
        groups.clear()
        for file in series.slices:
            groups[file.thickness_mm].append(file)
    return list(groups.values())


def _spread(files):
    """Indices of the slices that are measured: all, or evenly spaced pairs of neighbours."""
    if len(files) <= MEASURED_SLICES:
        return range(len(files))
    starts = np.linspace(0, len(files) - 2, MEASURED_SLICES // 2).round().astype(int)
    return np.stack([starts, starts + 1], axis=1).ravel().tolist()


def texture_sha256(parts):
    """Names the slices of a series: a part of them can have other noise, and other neighbours."""
    names = "|".join(file.sop_instance_uid for part in parts for file in part.slices)
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


def _generator(seed, *words):
    digest = hashlib.sha256("|".join(map(str, (seed, *words))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))

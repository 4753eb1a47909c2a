"""The torso in thin slices: stacks of neighbouring slices for denoisers that see them, and their sharpness along z."""

import dataclasses

import numpy as np

from kpn_tf.denoiser import Neighbour
from kpn_tf.dose.along_z import correlated_along_z
from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.evaluation import DenoiserError, Pair, denoise_pair
from kpn_tf.metrics import flat_regions, regional_noise_std_hu
from kpn_tf.phantom import LESIONS, NORMAL_DOSE_NOISE_HU, Tissue, torso
from kpn_tf.quality.intervals import bootstrap
from kpn_tf.quality.lesions import Lesion
from kpn_tf.quality.phantom import Phantom
from kpn_tf.quality.report import BEFORE
from kpn_tf.quality.slices import quantity

_SEED = 20210920

# Of noise between neighbouring slices: about the middle of what scanners show.
CORRELATION = 0.3

# The torso's normal dose is that of 3 mm slices; a thinner slice is made of fewer photons.
_NORMAL_DOSE_MM = 3.0

# The part of a slice of 512 pixels that the six lesions lie in, with what a network sees around them.
_LIVER = (slice(132, 372), slice(36, 276))

# Of the plate and the vessel that sharpness along z is measured with; both lie in one slice.
_PLATE_HU, _PLATE_RADIUS_MM, _VESSEL_HU, _VESSEL_MM, _VESSEL_LENGTH_MM = 100.0, 12.0, 100.0, 1.0, 30.0
_PLATE_MM, _VESSEL_END_MM = (-85.0, 15.0), (-100.0, -25.0)  # (x, y) of its centre; of its left end
SHARPNESS_REALISATIONS = 6


def torso_stacks(doses, realisations, *, slice_mm, slices, lesions=LESIONS, noise=None):
    """The torso's liver in thin slices, scanned many times with and without the lesions, each scan a stack.

    Args:
        doses: Fractions of a dose at which soft tissue in a slice of 3 mm has 12 HU of noise.
        realisations: Scans with, and as many without lesions, at each dose.
        slice_mm: Thickness and distance of the slices.
        slices: Slices of a stack, odd.
        lesions: In the liver.
        noise: `kpn_tf.dose.series_noise.SeriesNoise` that the liver has instead, whatever the dose.

    Returns:
        `kpn_tf.quality.phantom.Phantom`; the same scans each time. Lesions are spheres: what the middle slice cuts of
        them is what is looked for.
    """
    present = torso(slices=slices, slice_spacing_mm=slice_mm, lesions=lesions)
    absent = torso(
        slices=slices,
        slice_spacing_mm=slice_mm,
        lesions=[dataclasses.replace(sphere, contrast_hu=0.0) for sphere in lesions],
    )
    mm, middle = present.pixel_spacing_mm[0], slices // 2
    share = 1.0 if noise is None else _share_of_liver(absent.volume_hu[middle], mm, noise.spectrum)

    def field(dose, rng):
        slice_hu = absent.volume_hu[middle]
        if noise is None:
            return _noise(slice_hu, mm, slice_mm, dose, slices, rng)
        return _fields(slice_hu, mm, noise.std_hu / share, noise.spectrum, noise.correlation, slices, rng)

    def scans():
        for dose in doses:
            for i in range(realisations):
                for with_lesions, body in ((True, present), (False, absent)):
                    rng = np.random.default_rng([_SEED, round(1e6 * dose), i, with_lesions])
                    noise_hu = field(dose, rng)
                    name = f"{100 * dose:g} % of the dose, {'with' if with_lesions else 'without'} lesions, {i + 1}"
                    truth_hu = body.volume_hu[(slice(None), *_LIVER)]
                    yield (
                        dose,
                        with_lesions,
                        _pair(truth_hu + noise_hu, middle, slices, slice_mm, truth_hu, mm, name),
                    )

    truth_hu = absent.volume_hu[middle][_LIVER]
    correlated = CORRELATION if noise is None else round(noise.correlation, 2)
    return Phantom(
        f"digital torso, slices of {slice_mm:g} mm, noise correlated by {correlated} from one to the next, "
        f"{realisations} realisations with and {realisations} without lesions",
        tuple(_cuts(present, middle)),
        present.volume_hu[middle][_LIVER],
        flat_regions(truth_hu, (mm, mm)),
        "mm",
        False,
        True,
        2 * realisations * len(doses),
        scans(),
        eye_mm=mm,
    )


def sharpness_along_z(denoisers, dose, *, slice_mm, slices, note):
    """How far denoisers spread along z what lies in one slice: a plate and a vessel of 100 HU in the liver.

    Scans with and without them have the same noise, so that their difference is the response; its profile over
    the slices is as wide as it is at half of its greatest value, between slices on a straight line.

    Args:
        denoisers: Callables `(H, W)` HU -> `(H, W)` HU by name; those with `slices` are given neighbours.
        dose: As of `torso_stacks`.
        slice_mm: Thickness and distance of the slices.
        slices: Slices of a stack, odd.
        note: Callback `(line, failure)` if a denoiser fails.

    Returns:
        List of `Quantity`: the width of each profile, and what the slice keeps of each contrast.
    """
    half = slices // 2
    absent = torso(
        slices=4 * half + 1,
        slice_spacing_mm=slice_mm,
        lesions=[dataclasses.replace(sphere, contrast_hu=0.0) for sphere in LESIONS],
    )
    mm, middle = absent.pixel_spacing_mm[0], 2 * half
    truth_hu = absent.volume_hu[(slice(None), *_LIVER)]
    shapes = _plate_and_vessel(absent, middle, mm)
    responses = {kind: [] for kind in (BEFORE, *denoisers)}  # of each realisation: {shape: (slices,)}
    for i in range(SHARPNESS_REALISATIONS):
        rng = np.random.default_rng([_SEED, i])
        noise = _noise(absent.volume_hu[middle], mm, slice_mm, dose, len(truth_hu), rng)
        with_hu = truth_hu + noise
        with_hu[middle] += sum(contrast_hu for contrast_hu in shapes.values())
        scans = (truth_hu + noise, with_hu)
        for kind in responses:
            profile = {name: [] for name in shapes}
            for place in range(half, len(truth_hu) - half):
                try:
                    without, among = (
                        _denoised(
                            kind,
                            denoisers,
                            _pair(scan, place, slices, slice_mm, truth_hu, mm, "plate and vessel"),
                        )
                        for scan in scans
                    )
                except DenoiserError as error:
                    note(str(error), True)
                    return []
                for name, contrast_hu in shapes.items():
                    weights = contrast_hu / np.sum(contrast_hu**2)
                    profile[name].append(np.sum((among - without) * weights))
            responses[kind].append(profile)
    found = []
    kinds = tuple(responses)
    for name in shapes:
        profiles = np.array([[one[name] for one in responses[kind]] for kind in kinds])  # (kinds, n, slices)
        values, draws = bootstrap(
            lambda i, profiles=profiles: [width(p[i].mean(0)) * slice_mm for p in profiles], profiles.shape[1]
        )
        found.append(quantity("width along z", "mm", name, dose, kinds, values, draws))
        values, draws = bootstrap(
            lambda i, profiles=profiles: 100 * profiles[:, i, half].mean(1), profiles.shape[1]
        )
        found.append(quantity("kept in its slice", "%", name, dose, kinds, values, draws))
    return found


def width(profile):
    """Full width at half of the value in the middle, between samples on straight lines; in samples.

    Args:
        profile: `(n,)`, n odd, greatest in the middle.

    Returns:
        A number; each side reaches at most to the end of the profile.

    Example:

    >>> width([0.0, 0.0, 1.0, 0.0, 0.0]), width([0.0, 0.5, 1.0, 0.5, 0.0])
    (1.0, 2.0)
    """
    middle = len(profile) // 2
    level = profile[middle] / 2
    reach = 0.0
    for side in (profile[middle::-1], profile[middle:]):
        below = next((i for i, value in enumerate(side) if value <= level), None)
        reach += middle if below is None else below - (level - side[below]) / (side[below - 1] - side[below])
    return float(reach)


def _noise(slice_hu, mm, slice_mm, dose, count, rng):
    """Noise `(count, h, w)` of the liver in so many neighbouring slices, in HU."""
    std_hu = NORMAL_DOSE_NOISE_HU * np.sqrt(_NORMAL_DOSE_MM / slice_mm / dose)
    return _fields(slice_hu, mm, std_hu, SPECTRA["soft"], CORRELATION, count, rng)


def _fields(slice_hu, mm, std_hu, spectrum, correlation, count, rng):
    beyond = 2 if correlation else 0
    fields = [noise_field(slice_hu, mm, std_hu, spectrum, rng, _LIVER) for _ in range(count + beyond)]
    return correlated_along_z(np.stack(fields), correlation) if correlation else np.stack(fields)


def _share_of_liver(slice_hu, mm, spectrum):
    """Noise in the flat liver over that of all soft tissue, which `noise_field` is told of."""
    regions = flat_regions(slice_hu[_LIVER], (mm, mm))
    rng = np.random.default_rng(_SEED)
    fields = [noise_field(slice_hu, mm, 1.0, spectrum, rng, _LIVER) for _ in range(4)]
    return float(np.mean([regional_noise_std_hu(one, regions) for one in fields]))


def _pair(volume_hu, place, slices, slice_mm, truth_hu, mm, name):
    beside = tuple(
        Neighbour(volume_hu[place + z], abs(z) * slice_mm)
        for z in range(-(slices // 2), slices // 2 + 1)
        if z
    )
    return Pair(volume_hu[place], truth_hu[place], "torso", name, (mm, mm), beside)


def _denoised(kind, denoisers, pair):
    return pair.low_hu if kind == BEFORE else denoise_pair(kind, denoisers[kind], pair)[0]


def _cuts(body, middle):
    """The discs that the middle slice cuts out of the spheres."""
    labels = body.labels[middle][_LIVER]
    for sphere in body.lesions:
        pixels = np.argwhere(labels == sphere.label)
        if len(pixels):
            name = f"{sphere.contrast_hu:+.0f} HU, {2 * sphere.radius_mm:g} mm"
            yield Lesion(name, tuple(pixels.mean(0)), float(np.sqrt(len(pixels) / np.pi)), sphere.contrast_hu)


def _plate_and_vessel(body, middle, mm):
    """What is added to the middle slice, `(h, w)` in HU, by name: where there is liver alone."""
    rows, columns = body.volume_hu.shape[1:]
    y_mm = ((np.arange(rows) - (rows - 1) / 2) * mm)[_LIVER[0], None]
    x_mm = ((np.arange(columns) - (columns - 1) / 2) * mm)[None, _LIVER[1]]
    liver = body.labels[middle][_LIVER] == Tissue.LIVER
    plate = np.hypot(x_mm - _PLATE_MM[0], y_mm - _PLATE_MM[1]) <= _PLATE_RADIUS_MM
    along = (x_mm >= _VESSEL_END_MM[0]) & (x_mm <= _VESSEL_END_MM[0] + _VESSEL_LENGTH_MM)
    # A pixel shows as much of the vessel as it holds of it.
    overlap = np.clip((_VESSEL_MM + mm) / 2 - np.abs(y_mm - _VESSEL_END_MM[1]), 0, min(mm, _VESSEL_MM)) / mm
    return {
        "plate": _PLATE_HU * (plate & liver),
        "vessel of 1 mm": _VESSEL_HU * overlap * (along & liver),
    }

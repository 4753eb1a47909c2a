"""What PSNR does not show: noise and structure of the test slices, and faint lesions of the digital torso."""

import dataclasses
import functools

import numpy as np

from kpn_tf.dose.series_noise import SeriesNoise
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.evaluation import denoise_pair
from kpn_tf.metrics import flat_regions, regional_noise_std_hu, structure_by_class, structure_classes
from kpn_tf.metrics.noise_of_blend import NoiseOfBlend
from kpn_tf.metrics.structure import CLASSES
from kpn_tf.phantom import LESIONS
from kpn_tf.quality import torso_stacks
from kpn_tf.quality.lesions import LesionMeasures, contrasts_and_noises_hu
from kpn_tf.quality.report import BEFORE

# Of the torso: a slice of 3 mm at a quarter of its dose, scanned so often with, and as often without lesions.
NOISE_HU, SLICE_MM, REALISATIONS = 24.0, 3.0, 32

# Those lesions of the demonstration that its middle slice shows, all cut through their middle.
_SPHERES = tuple(
    dataclasses.replace(sphere, centre_mm=(*sphere.centre_mm[:2], 0.0)) for sphere in LESIONS[:6]
)

_AFTER = "after"


def measured_with():
    """What decides the scans of the torso, for `json.dumps`."""
    return {"torso": {"noise_hu": NOISE_HU, "slice_mm": SLICE_MM, "realisations": REALISATIONS}}


def references_of(pairs):
    """What the slices of a test are measured with: their flat regions and classes, found at normal dose.

    Args:
        pairs: `kpn_tf.evaluation.Pair`s.

    Returns:
        List of `(pair, regions, classes)`.
    """
    return [
        (
            pair,
            flat_regions(pair.normal_hu, pair.pixel_spacing_mm),
            structure_classes(pair.normal_hu).astype(np.uint8),
        )
        for pair in pairs
    ]


def of_slices(name, denoise, references):
    """Noise and structure of the test slices, as `kpn quality` measures them.

    Args:
        name: Of the method.
        denoise: Callable `(H, W)` HU -> `(H, W)` HU, or `None` for the low dose.
        references: What `references_of` returned.

    Returns:
        Dict of lists, one number a slice: `noise_hu`, and for each of `kpn_tf.metrics.structure.CLASSES`
        `flat_strength` (HU per pixel), `flat_coherence` and so on.
    """
    return _of_each(references, lambda pair: _after(name, denoise, pair))


def of_normal_dose(references):
    """The same of the normal dose itself: where there would be no difference."""
    return _of_each(references, lambda pair: pair.normal_hu)


def _of_each(references, slice_of):
    found = {measure: [] for measure in MEASURES_OF_SLICES}
    for pair, regions, classes in references:
        for measure, value in _of_slice(slice_of(pair), regions, classes).items():
            found[measure].append(value)
    return found


def _after(name, denoise, pair):
    """What a method makes of the low dose of a pair; `None` makes nothing of it."""
    return pair.low_hu if denoise is None else denoise_pair(name, denoise, pair)[0]


def _of_slice(slice_hu, regions, classes):
    found = {"noise_hu": regional_noise_std_hu(slice_hu, regions)}
    for of, (strength_hu, coherence) in structure_by_class(slice_hu, classes).items():
        found |= {f"{of}_strength": strength_hu, f"{of}_coherence": coherence}
    return {measure: float(found[measure]) for measure in MEASURES_OF_SLICES}


MEASURES_OF_SLICES = (
    "noise_hu",
    *(f"{of}_{what}" for what in ("strength", "coherence") for of in CLASSES),
)


@functools.cache
def _torso(realisations):
    """The phantom and its scans `(present, pair)`: the same for every method."""
    phantom = torso_stacks(
        (1.0,),
        realisations,
        slice_mm=SLICE_MM,
        slices=1,
        lesions=_SPHERES,
        noise=SeriesNoise(NOISE_HU, SPECTRA["soft"]),
    )
    return phantom, [(present, pair) for _, present, pair in phantom.scans]


def of_torso(name, denoise):
    """What is left of faint lesions in the torso's liver, and how well an observer finds them.

    The share of contrast is that of a blend of the slice before and after in which half of the noise is left, or more
    where the method leaves more: contrast is linear in the blend, noise is measured in it.

    Args:
        name: Of the method.
        denoise: As of `of_slices`.

    Returns:
        Dict of lists, one number a scan, so that scans can be drawn anew: `kept_8`, `kept_10_15` (shares of the
        contrast of the lesion of 8 mm, and of those of 10 to 15 mm), `d_prime_8` and `d_prime_10_15`, whose mean is d'
        and which vary as leaving out each scan says; and the share of noise that is left, `noise_left`, one number.
    """
    phantom, scans = _torso(REALISATIONS)
    measures, blend = LesionMeasures(phantom.lesions, (BEFORE, _AFTER)), NoiseOfBlend()
    for present, pair in scans:
        after_hu = _after(name, denoise, pair)
        measures.add(present, {BEFORE: pair.low_hu, _AFTER: after_hu})
        if not present:
            blend.add(pair.low_hu, after_hu, pair.pixel_spacing_mm)
    noise_hu = blend.noise_hu(0.0)
    strength = blend.strength_for(noise_hu / 2)
    found = {"noise_left": [blend.noise_hu(strength) / noise_hu]}
    small = [lesion for lesion in phantom.lesions if lesion.name.endswith(" 8 mm")]
    for group, lesions in (
        ("8", small),
        ("10_15", [lesion for lesion in phantom.lesions if lesion not in small]),
    ):
        kept = [1 + strength * _change(measures, lesion, phantom.truth_hu) for lesion in lesions]
        found[f"kept_{group}"] = np.mean(kept, axis=0).tolist()
        found[f"d_prime_{group}"] = np.mean(
            [_d_primes(measures, lesion) for lesion in lesions], axis=0
        ).tolist()
    return found


def _change(measures, lesion, truth_hu):
    """Change of a lesion's contrast in each scan, `(n,)`, as a share of that of the truth."""
    ((truth, _),) = contrasts_and_noises_hu(lesion, truth_hu[lesion.box][None])
    return (measures.contrasts_hu(lesion, _AFTER) - measures.contrasts_hu(lesion, BEFORE)) / truth


def _d_primes(measures, lesion):
    """Numbers `(n,)` of mean d' whose scatter is that of the jackknife, for what cannot be drawn anew.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 11.
    """
    every = np.arange(REALISATIONS)
    without = np.array([measures.d_prime(lesion, _AFTER, np.delete(every, i)) for i in every])
    return measures.d_prime(lesion, _AFTER) + (REALISATIONS - 1) * (without.mean() - without)

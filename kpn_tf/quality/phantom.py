"""Quality where the truth is known: realisations of a phantom with and without its lesions, at one dose or more."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.evaluation import Pair
from kpn_tf.metrics import flat_regions
from kpn_tf.phantom import NORMAL_DOSE_NOISE_HU, torso
from kpn_tf.phantom import Lesion as Sphere
from kpn_tf.quality.blobs import BlobMeasures
from kpn_tf.quality.lesions import Lesion, LesionMeasures
from kpn_tf.quality.report import BEFORE, Curves, Report
from kpn_tf.quality.series import before_and_after, take_pictures
from kpn_tf.quality.slices import SliceMeasures

_SEED = 20210919

# In the liver, all in the plane of the slice: two to see how sharp they stay, at either end of what contrast agent
# does; four that are hard to find at a quarter of the dose, each smaller and of more contrast than the one before.
_SPHERES = tuple(
    Sphere(64 + i, (x, y, 0.0), radius_mm, contrast_hu)
    for i, (x, y, radius_mm, contrast_hu) in enumerate(
        [
            (-92.0, -18.0, 7.5, -20.0),
            (-70.0, 24.0, 7.5, 100.0),
            (-68.0, -32.0, 6.0, -4.0),
            (-94.0, 12.0, 5.0, 6.0),
            (-71.0, -5.0, 3.5, -10.0),
            (-52.0, -20.0, 2.5, 16.0),
        ]
    )
)


@dataclass(frozen=True)
class Phantom:
    """A phantom and its scans.

    Args:
        data_name: Names it in tables.
        lesions: `Lesion`s that the slices with lesions show.
        truth_hu: `(H, W)` in HU, with the lesions.
        regions: Boxes of the slices without lesions in which noise is measured.
        length: "mm", or "pixel" where nobody says how large a pixel is.
        alike: Whether all lesions lie alike, see `LesionMeasures`.
        blurred: Whether the truth has the blur of the scans, so that their sharpness can be held against it.
        count: How many scans there are.
        scans: `(dose, present, Pair)`, made when asked for: the dose as a fraction, whether the lesions are in it.
        eye_mm: Side of a pixel in mm for the observer with an eye filter, or `None` for none.
    """

    data_name: str
    lesions: tuple[Lesion, ...]
    truth_hu: np.ndarray = field(repr=False)
    regions: list = field(repr=False)
    length: str
    alike: bool
    blurred: bool
    count: int
    scans: Iterator[tuple[float, bool, Pair]] = field(repr=False)
    eye_mm: float | None = None


def torso_phantom(doses, realisations):
    """The middle slice of the digital torso, scanned many times with and without the lesions in its liver.

    Args:
        doses: Fractions of a dose at which soft tissue has 12 HU of noise.
        realisations: Scans with, and as many without lesions, at each dose.

    Returns:
        `Phantom`; the same scans each time.
    """
    present = torso(slices=1, lesions=_SPHERES)
    absent = torso(slices=1, lesions=[dataclasses.replace(sphere, contrast_hu=0.0) for sphere in _SPHERES])
    mm = present.pixel_spacing_mm[0]
    truths_hu = {True: present.volume_hu[0], False: absent.volume_hu[0]}

    def scans():
        for dose in doses:
            for i in range(realisations):
                for with_lesions, truth_hu in truths_hu.items():
                    rng = np.random.default_rng([_SEED, round(1e6 * dose), i, with_lesions])
                    noise_hu = NORMAL_DOSE_NOISE_HU / dose**0.5
                    low_hu = truth_hu + noise_field(truth_hu, mm, noise_hu, SPECTRA["soft"], rng)
                    name = f"{100 * dose:g} % of the dose, {'with' if with_lesions else 'without'} lesions, {i + 1}"
                    yield dose, with_lesions, Pair(low_hu, truth_hu, "torso", name, (mm, mm))

    return Phantom(
        f"digital torso, one slice, {realisations} realisations with and {realisations} without lesions",
        tuple(_discs(present)),
        truths_hu[True],
        flat_regions(truths_hu[False], (mm, mm)),
        "mm",
        False,
        True,
        2 * realisations * len(doses),
        scans(),
    )


def _discs(body):
    """The circles in which the slice cuts the spheres through their middle."""
    mm = body.pixel_spacing_mm[0]
    rows, columns = body.volume_hu.shape[1:]
    for sphere in body.lesions:
        x_mm, y_mm, _ = sphere.centre_mm
        centre = (y_mm / mm + (rows - 1) / 2, x_mm / mm + (columns - 1) / 2)
        name = f"{sphere.contrast_hu:+.0f} HU, {2 * sphere.radius_mm:g} mm"
        yield Lesion(name, centre, sphere.radius_mm / mm, sphere.contrast_hu)


def measure_phantom(phantom, scans, denoisers, *, note, transfer=None):
    """Measures a phantom before and after each denoiser.

    What every slice shows is measured in the scans without lesions.

    Args:
        phantom: `Phantom`.
        scans: Its `scans`, perhaps with a progress bar around them; doses one after the other.
        denoisers: Callables `(H, W)` HU -> `(H, W)` HU by name.
        note: Callback `(line, failure)` for skipped scans.
        transfer: Names of the lesions whose transfer function is measured, which takes long; `None` for all that are
            large and clear enough.

    Returns:
        `Report`.

    Raises:
        ValueError: If too few scans are left to train an observer.
    """
    kinds = (BEFORE, *denoisers)
    by_dose = {}
    for dose, present, pair in scans:
        slices_hu = before_and_after(pair, denoisers, note)
        if slices_hu is None:
            continue
        if dose not in by_dose:
            by_dose[dose] = (
                SliceMeasures((*kinds, "truth"), phantom.length),
                LesionMeasures(phantom.lesions, kinds, phantom.alike, phantom.eye_mm),
                BlobMeasures(kinds),
            )
            spacing = pair.pixel_spacing_mm
        slices, lesions, blobs = by_dose[dose]
        lesions.add(present, slices_hu)
        if not present:
            judged_hu = {**slices_hu, "truth": pair.normal_hu}
            slices.add(pair.normal_hu, spacing, judged_hu, phantom.regions)
            if phantom.length == "mm":
                blobs.add(pair.normal_hu, slices_hu, phantom.regions, spacing[0])
    if not by_dose or not all(slices.count for slices, *_ in by_dose.values()):
        raise ValueError(f"Expected scans without lesions of {phantom.data_name}. Received: none to measure")
    curves, found = Curves(phantom.length), []
    pixel_mm = spacing[0] if phantom.blurred else None
    for dose, (slices, lesions, blobs) in by_dose.items():
        of_lesions, transfers = lesions.quantities(phantom.truth_hu, pixel_mm, dose, transfer)
        found += [*slices.quantities(dose), slices.worst_cell(dose), *of_lesions]
        if phantom.length == "mm":
            found += blobs.quantities(dose)
        curves.radial[dose] = slices.radial()
        curves.transfer = curves.transfer or transfers
    take_pictures(curves, next(iter(by_dose.values()))[0])
    conventions = {**slices.conventions(), **lesions.conventions()}
    if phantom.length == "mm":
        conventions |= blobs.conventions()
    if not phantom.blurred:
        del conventions["TTF"]
    counts = {dose: slices.count for dose, (slices, *_) in by_dose.items()}
    return Report(phantom.data_name, counts, conventions, tuple(found), curves)

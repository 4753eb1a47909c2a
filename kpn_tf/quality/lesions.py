"""What a lesion of known place, size and contrast allows: its sharpness, contrast over noise, detectability."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from kpn_tf.metrics import (
    auc_of,
    contrast_and_noise_hu,
    detectability,
    eye_filtered_d_prime,
    laguerre_gauss_channels,
    task_transfer,
    unbiased_square,
)
from kpn_tf.quality.intervals import Interval, bootstrap, jackknife
from kpn_tf.quality.report import BEFORE, Quantity
from kpn_tf.quality.slices import quantity

CHANNELS = 5

# Of the diameter: the width of the channels. Their support is cut at two radii, where other things begin.
_CHANNEL_WIDTH = 2 / 3
_SUPPORT = 2.0

# What stands out more than this nobody misses.
_OBSERVED_HU = 30.0

# Background ends at this many radii; the edge is left out by a pixel to each side.
_RING = 1.75

# Below this radius an edge profile has too few pixels, below this contrast too much noise to have a transfer.
_TRANSFER_PIXELS = 6.0
_TRANSFER_HU = 10.0

_TRANSFER_RESAMPLES = 200


@dataclass(frozen=True)
class Lesion:
    """A disc in the slice.

    Args:
        name: In the table.
        centre: `(row, column)` in pixels.
        radius: In pixels.
        contrast_hu: Of its own, before any blur.
    """

    name: str
    centre: tuple[float, float]
    radius: float
    contrast_hu: float

    @property
    def reach(self):
        """How far from its central pixel an observer sees, in pixels."""
        return int(np.ceil(_SUPPORT * self.radius)) + 1

    @property
    def box(self):
        """The square of pixels around it that an observer sees."""
        return tuple(slice(round(c) - self.reach, round(c) + self.reach + 1) for c in self.centre)


class LesionMeasures:
    """Gathers what is seen of lesions over realisations, with and without them.

    Args:
        lesions: `Lesion`s, the same in all realisations.
        kinds: "before", the denoisers.
        alike: Whether all lesions lie alike (a round phantom's, equally far from its centre), so that the place of
            each shows the noise of all.
        eye_mm: Side of a pixel in mm, for the observer with an eye filter; without it there is none.
    """

    def __init__(self, lesions, kinds, alike=False, eye_mm=None):
        self.lesions, self._kinds, self._alike, self._eye_mm = lesions, kinds, alike, eye_mm
        self._present = {(kind, lesion): [] for kind in kinds for lesion in lesions}
        self._absent = {(kind, lesion): [] for kind in kinds for lesion in lesions}

    def add(self, present, slices_hu):
        """Takes one realisation.

        Args:
            present: Whether the lesions are in it.
            slices_hu: Dict of `(H, W)` in HU by kind.
        """
        kept = self._present if present else self._absent
        for kind in self._kinds:
            for lesion in self.lesions:
                # The size of the box is this lesion's at all places.
                places = self.lesions if self._alike and not present else (lesion,)
                boxes = [dataclasses.replace(lesion, centre=place.centre).box for place in places]
                kept[kind, lesion].append([slices_hu[kind][box].copy() for box in boxes])

    def contrasts_hu(self, lesion, kind):
        """Contrast of a lesion in each realisation that shows it, `(n,)` in HU."""
        return contrasts_and_noises_hu(lesion, np.array(self._present[kind, lesion])[:, 0])[:, 0]

    def d_prime(self, lesion, kind, chosen=slice(None)):
        """d' of the observer; 0 where taking out the bias of finite samples leaves nothing.

        Args:
            lesion: One of `lesions`.
            kind: Before, or after which denoiser.
            chosen: Indices of the realisations that it is trained on, of those with and without lesions alike.

        Returns:
            A float.
        """
        channels = _channels(lesion)
        absent, present = (
            _flat(np.array(kept[kind, lesion])[chosen]) for kept in (self._absent, self._present)
        )
        return float(np.sqrt(max(unbiased_square(absent, present, channels), 0.0)))

    def quantities(self, truth_hu, pixel_mm, dose=None, transfer=None):
        """`Quantity`s of each lesion.

        Args:
            truth_hu: `(H, W)` in HU with the lesions.
            pixel_mm: Side of a pixel in mm; `None` where no transfer function is to be measured.
            dose: Of all realisations so far.
            transfer: As of `kpn_tf.quality.measure_phantom`.

        Returns:
            List of `Quantity`, and dict of `TaskTransfer` by kind, by name of the lesion.
        """
        found, transfers = [], {}
        for lesion in self.lesions:
            present = {kind: np.array(self._present[kind, lesion])[:, 0] for kind in self._kinds}
            found += _contrast(lesion, self._kinds, present, truth_hu, dose)
            if abs(lesion.contrast_hu) <= _OBSERVED_HU:
                d_prime = self._d_prime(lesion, dose)
                found += [d_prime, _area_under_curve(d_prime)]
                if self._eye_mm:
                    found.append(self._seen_d_prime(lesion, truth_hu, dose))
            clear = lesion.radius >= _TRANSFER_PIXELS and abs(lesion.contrast_hu) >= _TRANSFER_HU
            if pixel_mm and clear and (transfer is None or lesion.name in transfer):
                of, curves = _transfer(lesion, self._kinds, present, truth_hu, pixel_mm, dose)
                found += of
                transfers[lesion.name] = curves
        order = list(dict.fromkeys(q.name for q in found))
        return sorted(found, key=lambda q: order.index(q.name)), transfers

    def _d_prime(self, lesion, dose):
        channels = _channels(lesion)
        present = {kind: np.array(self._present[kind, lesion]) for kind in self._kinds}  # (n, 1, h, w)
        absent = {kind: np.array(self._absent[kind, lesion]) for kind in self._kinds}  # (n, places, h, w)
        values = {}
        for kind in self._kinds:
            of = detectability(_flat(absent[kind]), _flat(present[kind]), channels)
            values[kind] = Interval(of.d_prime, *of.d_prime_interval)

        def change(i, kind):
            squares = [
                unbiased_square(_flat(absent[k][i]), _flat(present[k][i]), channels) for k in (kind, BEFORE)
            ]
            # Where the correction leaves nothing there is no d' to compare.
            return np.nan if min(squares) <= 0 else np.sqrt(squares[0]) - np.sqrt(squares[1])

        count = min(len(present[BEFORE]), len(absent[BEFORE]))
        changes = {
            kind: jackknife(functools.partial(change, kind=kind), count)
            for kind in self._kinds
            if kind != BEFORE
        }
        return Quantity("detectability d'", "", lesion.name, dose, values, changes)

    def _seen_d_prime(self, lesion, truth_hu, dose):
        """d' of the non-prewhitening observer with eye filter; its interval and its change's by jackknife."""
        rows, columns = (np.arange(s.start, s.stop) for s in lesion.box)
        distance = np.hypot(rows[:, None] - lesion.centre[0], columns - lesion.centre[1])
        ring = (distance >= lesion.radius + 1) & (distance <= _RING * lesion.radius + 1)
        signal = np.where(
            distance <= lesion.radius + 1, truth_hu[lesion.box] - truth_hu[lesion.box][ring].mean(), 0
        )
        boxes = {
            kind: [np.array(kept[kind, lesion])[:, 0] for kept in (self._absent, self._present)]
            for kind in self._kinds
        }
        count = min(map(len, boxes[BEFORE]))

        def of(i, kind):
            return eye_filtered_d_prime(*(images[i] for images in boxes[kind]), signal, self._eye_mm)

        values = {kind: jackknife(functools.partial(of, kind=kind), count) for kind in self._kinds}
        changes = {
            kind: jackknife(lambda i, kind=kind: of(i, kind) - of(i, BEFORE), count)
            for kind in self._kinds
            if kind != BEFORE
        }
        return Quantity("d', eye filter", "", lesion.name, dose, values, changes)

    def conventions(self):
        """What the numbers mean, by name."""
        places = "the places of all lesions, which lie alike" if self._alike else "the lesion's place"
        eye = "non-prewhitening, with an eye filter that peaks at 4 cycles a degree at 500 mm and true size; jackknife"
        return {
            **({"d', eye filter": eye} if self._eye_mm else {}),
            "contrast": "mean over the pixels a pixel or more inside the edge, minus those from a pixel outside it to "
            f"{_RING:g} radii; CNR: |mean contrast| over the root mean square SD of that background",
            "d'": f"channelised Hotelling observer, {CHANNELS} Laguerre-Gauss channels, a = 2/3 of the diameter, "
            f"cut at {_SUPPORT:g} radii; pooled covariance; absent images from {places}; bias of finite samples "
            "removed, exact 95 % interval (noncentral F); its change: jackknife over realisations",
            "TTF": "edge all around a disc, mean of all realisations, bins of a tenth of a pixel; f50 where it falls "
            f"to one half; discs of {_TRANSFER_PIXELS:g} pixels radius and {_TRANSFER_HU:g} HU or more; bootstrap over "
            f"realisations, {_TRANSFER_RESAMPLES} resamples",
        }


def _area_under_curve(d_prime):
    """AUC of the observer from the `Quantity` of its d'."""
    values = {kind: Interval(*map(auc_of, interval)) for kind, interval in d_prime.values.items()}
    return Quantity("AUC", "", d_prime.of, d_prime.dose, values, {})


def _flat(boxes):
    return boxes.reshape(-1, *boxes.shape[2:])


def _channels(lesion):
    return laguerre_gauss_channels(2 * lesion.reach + 1, _CHANNEL_WIDTH * 2 * lesion.radius, CHANNELS)


def contrasts_and_noises_hu(lesion, boxes_hu):
    """Contrast of a lesion and noise beside it.

    Args:
        lesion: `Lesion`.
        boxes_hu: `(n, h, w)` in HU, its `box` of so many slices.

    Returns:
        `(n, 2)` in HU: mean over the pixels a pixel or more inside the edge minus that of the ring, and the ring's
        standard deviation.
    """
    rows, columns = (np.arange(s.start, s.stop) for s in lesion.box)
    distance = np.hypot(rows[:, None] - lesion.centre[0], columns - lesion.centre[1])
    inside = distance <= max(lesion.radius - 1, 1.0)
    ring = (distance >= lesion.radius + 1) & (distance <= max(_RING * lesion.radius, lesion.radius + 2))
    return np.array([contrast_and_noise_hu(box, inside, ring) for box in boxes_hu])


def _contrast(lesion, kinds, present, truth_hu, dose):
    pairs = np.array([contrasts_and_noises_hu(lesion, present[kind]) for kind in kinds])
    contrasts, noises = pairs[..., 0], pairs[..., 1]  # (kinds, n)
    count = contrasts.shape[1]
    values, draws = bootstrap(lambda i: contrasts[:, i].mean(1), count)
    shown = quantity("contrast", "HU", lesion.name, dose, kinds, values, draws)
    ((truth, _),) = contrasts_and_noises_hu(lesion, truth_hu[lesion.box][None])
    shown.values["truth"] = Interval(float(truth))
    values, draws = bootstrap(
        lambda i: np.abs(contrasts[:, i].mean(1)) / np.sqrt((noises[:, i] ** 2).mean(1)), count
    )
    return [shown, quantity("CNR", "", lesion.name, dose, kinds, values, draws)]


def _transfer(lesion, kinds, present, truth_hu, pixel_mm, dose):
    centre = tuple(c - s.start for c, s in zip(lesion.centre, lesion.box, strict=True))

    def of(box):
        return task_transfer(box, pixel_mm, centre, lesion.radius * pixel_mm)

    curves = {kind: of(present[kind].mean(0)) for kind in kinds}
    values, draws = bootstrap(
        lambda i: [of(present[kind][i].mean(0)).frequency_at(0.5) for kind in kinds],
        len(present[kinds[0]]),
        _TRANSFER_RESAMPLES,
    )
    shown = quantity("TTF, f50", "1/mm", lesion.name, dose, kinds, values, draws)
    curves["truth"] = of(truth_hu[lesion.box])
    shown.values["truth"] = Interval(curves["truth"].frequency_at(0.5))
    return [shown], curves
